"""What an encoder is: a cheap half for worker processes, and a model half for the device.

    prepare   sample + decoded images -> small CPU arrays and a length     (worker processes)
    load      the frozen model onto a device                               (once, main process)
    encode    a list of prepared samples -> one vector each                (main process)

A sample's vector depends on the sample alone: not on the others in its batch, or the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from emt_core.models.device import Precision
from emt_core.models.prepared import Prepared
from emt_core.models.vlm.chat import TextMode

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from emt_core.data.sample import Sample


class Encoder(Protocol):
    preload: tuple[str, ...]
    """Modules that `prepare` needs: imported once for all worker processes."""

    takes_text_only: bool
    """Whether a row without an image has a vector."""

    def prepare(self, sample: Sample, images: Sequence[Image.Image], text: TextMode) -> Prepared:
        """CPU work for one sample; `images` are RGB, at most the stated bound of them, in order.

        Raises Refused where the processor cannot take these images, ProcessorFails where it takes
        none.
        """
        ...

    def load(self, device: str, precision: Precision) -> None:
        """Put the model on a device. Raises EmtError where it cannot be loaded."""
        ...

    def encode(self, prepared: Sequence[Prepared]) -> np.ndarray:
        """float32 [n, dim]. Raises the device's out-of-memory error."""
        ...

    @property
    def dim(self) -> int: ...

    def describe(self) -> dict[str, Any]:
        """Plain facts for the manifest: class, sizes, device, dtype."""
        ...
