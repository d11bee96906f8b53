"""The device that `runtime.device` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emt_core.errors import EmtError

if TYPE_CHECKING:
    import torch


def gpus_for(wanted: str) -> int:
    """GPUs that `runtime.device` leaves free to use: all for `auto` and `cuda`, else none."""
    import torch

    return torch.cuda.device_count() if wanted in ("auto", "cuda") else 0


def choose_device(wanted: str) -> torch.device:
    """`auto`: cuda where there is one, else cpu. Raises EmtError for a device that is missing."""
    import torch

    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise EmtError(
            f"there is no device {wanted!r}", remedy="runtime.device is auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EmtError(
            f"device {wanted!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices",
            remedy="set runtime.device to auto or cpu",
        )
    return device
