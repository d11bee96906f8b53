"""Which rows a map is fitted on: in proportion to the sources' sizes, with a floor so that small robot sets show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FLOOR_SHARE = 0.25  # this part of the sample is dealt to all sources alike, the rest by size


def spread(sizes: Sequence[int], total: int) -> np.ndarray:
    """int64 [sources]: rows to take of each; all where they are no more than `total` in all.

    Each source gets at least min(its rows, total * FLOOR_SHARE / number of sources); the sum is at most `total`.
    """
    held = np.asarray(sizes, np.int64)
    if held.sum() <= total:
        return held
    floor = np.minimum(held, int(total * FLOOR_SHARE / len(held)))
    left = held - floor
    rest = total - floor.sum()
    return floor + np.minimum(left, (left * (rest / left.sum())).astype(np.int64))


def choose(rows: np.ndarray, count: int, seed: Sequence[int]) -> np.ndarray:
    """`count` of the rows, drawn by seed without repeats, in rising order; all of them where there are no more."""
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng(list(seed)).choice(rows, count, replace=False))
