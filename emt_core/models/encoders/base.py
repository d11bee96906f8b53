"""What an encoder is: a cheap half that runs in worker processes, and a model half that runs where the device is.

    prepare   sample + decoded images -> small CPU arrays and a length     (worker processes, no model in memory)
    load      the frozen model onto a device                               (once, in the main process)
    encode    a list of prepared samples -> one vector each                (main process)

A sample's vector depends on the sample alone: not on its batch companions, their number, their order or the padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from emt_core.errors import EmtError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

    from emt_core.data.sample import Sample

TextMode = Literal["none", "user", "full", "instruction"]
"""Text given beside the images. `instruction` is what `user` is for a robot frame: its only turn."""

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """One sample, ready for the model. NumPy only: it crosses a process boundary.

    tokens: arrays [length], one entry a token (`input_ids`, ...); they are padded when batched.
    vision: arrays [patches or tiles, ...]; a batch concatenates them along the first axis, in sample order.
    length: what batches are sorted by.
    """

    length: int
    tokens: Mapping[str, np.ndarray] = field(default_factory=dict)
    vision: Mapping[str, np.ndarray] = field(default_factory=dict)


class ImageRefused(Exception):
    """The model's processor cannot take an image that was decoded; the row gets the status `image_refused`."""


class Encoder(Protocol):
    takes_text_only: bool
    """Whether a row without an image has a vector."""

    def prepare(self, sample: Sample, images: Sequence[Image.Image], text: TextMode) -> Prepared:
        """CPU work for one sample; `images` are RGB, at most the stated bound of them, in the sample's order.

        Raises ImageRefused where the processor cannot take an image.
        """
        ...

    def load(self, device: str, precision: Precision) -> None:
        """Put the model on a device. Raises EmtError where it cannot be loaded."""
        ...

    def encode(self, prepared: Sequence[Prepared]) -> np.ndarray:
        """float32 [n, dim]. Raises the device's out-of-memory error; the caller halves the batch."""
        ...

    @property
    def dim(self) -> int: ...

    def describe(self) -> dict[str, Any]:
        """Plain facts for the manifest: class, sizes, device, dtype, template."""
        ...


def choose_device(wanted: str) -> torch.device:
    """`auto` -> cuda where there is one, else cpu. Raises EmtError for a device that is not there."""
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
    """auto: bfloat16 on a GPU that computes in it, else float32 (CPUs emulate bfloat16 slowly)."""
    import torch

    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
