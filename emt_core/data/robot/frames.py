"""One way to bring a frame to the training size, for the cache and for the acting policy alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


def square_frame(image: Image.Image, size: int) -> np.ndarray:
    """uint8 [size, size, 3], squeezed to a square by bicubic interpolation, as VLM4VLA does."""
    from PIL import Image as Pillow

    image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Pillow.Resampling.BICUBIC)
    return np.asarray(image, np.uint8)


def square_frames(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 [n, size, size, 3] of uint8 [n, H, W, 3]; the same array if it has that size."""
    from PIL import Image as Pillow

    if images.shape[1:3] == (size, size):
        return images
    return np.stack([square_frame(Pillow.fromarray(image), size) for image in images])
