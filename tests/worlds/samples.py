"""Pictures of noise and conversations about them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from emt_core.data.sample import ImageRef, Sample, Turn


def picture(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def conversation(
    row: int, *turns: tuple[str, str], images: int = 1, role: str = "pool", source: str = "s"
) -> Sample:
    refs = tuple(ImageRef(kind="file", path=f"{row}_{i}.png") for i in range(images))
    return Sample(
        source=source,
        row=row,
        role=role,
        turns=tuple(Turn(role=speaker, text=text) for speaker, text in turns),
        images=refs,
    )
