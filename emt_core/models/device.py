"""Which device a model runs on, and in which arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from emt_core.errors import EmtError

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]


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


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """auto: bfloat16 on a GPU that computes in it, else float32 (CPUs emulate bfloat16)."""
    import torch

    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def dtype_name(dtype: torch.dtype) -> str:
    """`float32`, `bfloat16`."""
    return str(dtype).removeprefix("torch.")
