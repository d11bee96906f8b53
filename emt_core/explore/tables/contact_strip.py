"""Some images of a source side by side as one picture, which is one request for the browser."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from emt_core.data.index import Index, SourceRange
from emt_core.data.sample import Sample

TILE_PX = 112
GAP_PX = 6
DRAWN = 6
"""Rows drawn per tile, because some have no image."""


def handful(
    index: Index, source: SourceRange, count: int, *, seed: int = 0
) -> list[tuple[int, Sample]]:
    """(index row, sample) of at most `count` seeded rows with an image; one per robot episode."""
    rng = np.random.default_rng([seed, source.start])
    wanted = min(count * DRAWN, source.rows)
    if not wanted:
        return []
    rows = source.start + rng.choice(source.rows, wanted, replace=False)
    found: list[tuple[int, Sample]] = []
    episodes: set[int] = set()
    for row, sample in zip(rows.tolist(), index.samples(rows), strict=True):
        if not sample.images or (sample.episode >= 0 and sample.episode in episodes):
            continue
        episodes.add(sample.episode)
        found.append((row, sample))
        if len(found) == count:
            break
    return sorted(found, key=lambda pair: pair[0])


def contact_strip(thumbnails: Sequence[bytes], *, columns: int, side: int = TILE_PX) -> bytes:
    """One WebP of `columns` square tiles, cropped from the middle; missing tiles are transparent."""
    strip = Image.new("RGBA", (columns * side + (columns - 1) * GAP_PX, side), (0, 0, 0, 0))
    for place, content in enumerate(thumbnails[:columns]):
        tile = Image.open(io.BytesIO(content)).convert("RGB")
        short = min(tile.size)
        left = (tile.width - short) // 2
        top = (tile.height - short) // 2
        middle = (left, top, left + short, top + short)
        tile = tile.resize((side, side), Image.Resampling.LANCZOS, box=middle)
        strip.paste(tile, (place * (side + GAP_PX), 0))
    encoded = io.BytesIO()
    strip.save(encoded, "WEBP", quality=82, method=2)
    return encoded.getvalue()
