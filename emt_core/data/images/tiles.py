"""One picture of several: the cameras of a frame in a grid.

Up to three stand side by side, more in a square (four: two rows of two), in the order given, from
the left and from the top. A cell has the size of the first picture; another shape is scaled to fit
and stands in its middle, on black.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from emt_core.data.sample import ImageRef

if TYPE_CHECKING:
    from PIL import Image

SIDE_BY_SIDE = 3


def tiled(refs: Sequence[ImageRef]) -> ImageRef:
    """One reference to several pictures as one; the reference itself where it is one."""
    if len(refs) == 1:
        return refs[0]
    first = refs[0]
    return ImageRef(
        kind="tile",
        path=first.path,
        member=json.dumps([asdict(ref) for ref in refs]),
        index=first.index,
        time=first.time,
    )


def parts_of(tile: ImageRef) -> list[ImageRef]:
    """The pictures that a tile is made of, in order."""
    return [ImageRef(**part) for part in json.loads(tile.member)]


def grid(pictures: int) -> tuple[int, int]:
    """(columns, rows)."""
    columns = pictures if pictures <= SIDE_BY_SIDE else math.ceil(math.sqrt(pictures))
    return columns, math.ceil(pictures / columns)


def tile(images: Sequence[Image.Image]) -> Image.Image:
    """RGB; as many times as wide and high as the first one as `grid` says."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    columns, rows = grid(len(images))
    width, height = images[0].size
    whole = Pillow.new("RGB", (columns * width, rows * height))
    for place, image in enumerate(images):
        fitted = image
        if image.size != (width, height):
            fitted = ImageOps.pad(image, (width, height), Pillow.Resampling.BICUBIC)
        whole.paste(fitted, (place % columns * width, place // columns * height))
    return whole
