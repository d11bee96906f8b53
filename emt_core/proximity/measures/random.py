"""random (method section 5): a uniform number a row, so that ranking by it is a seeded draw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.data.draws import Purpose, random_keys
from emt_core.proximity.base import Inputs
from emt_core.recipe.proximity import RandomMeasure

LOGIT = False
BLOCK_ROWS = 65_536


def fit(config: RandomMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    return {}


def scores(
    config: RandomMeasure, inputs: Inputs, fitted: Path, start: int
) -> Iterator[tuple[int, np.ndarray]]:
    """float32 in [0, 1): a row's number depends on the seed and the row alone."""
    for at in range(start, inputs.index.rows, BLOCK_ROWS):
        stop = min(at + BLOCK_ROWS, inputs.index.rows)
        keys = random_keys(config.seed, np.arange(at, stop), Purpose.MEASURE)
        high = (keys >> np.uint64(40)).astype(np.float32)  # 24 bits are exact
        yield at, high / np.float32(2**24)
