"""Range, mean and percentiles of action dimensions, streamed: memory does not grow with the data set.

Two passes: the first finds each dimension's range, the second counts into BINS bins of it, so a percentile is off by
at most 1/BINS of the range. A dimension that never moves has its one value everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

BINS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """float64 [d] each, over `count` rows."""

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    q01: np.ndarray
    q99: np.ndarray
    count: int


def stream_statistics(blocks: Callable[[], Iterable[np.ndarray]]) -> Statistics:
    """Statistics over the rows of all blocks (float [n, d] each). `blocks` is called twice and gives the same blocks.

    Raises ValueError where there is not one row.
    """
    low = high = total = None
    count = 0
    for block in blocks():
        if not len(block):
            continue
        block = block.astype(np.float64)
        low = block.min(axis=0) if low is None else np.minimum(low, block.min(axis=0))
        high = block.max(axis=0) if high is None else np.maximum(high, block.max(axis=0))
        total = block.sum(axis=0) if total is None else total + block.sum(axis=0)
        count += len(block)
    if low is None or high is None or total is None:
        raise ValueError("no rows")
    span = np.where(high > low, high - low, 1.0)
    histogram = np.zeros((len(low), BINS), np.int64)
    for block in blocks():
        places = np.minimum((block.astype(np.float64) - low) / span * BINS, BINS - 1).astype(
            np.int64
        )
        for dimension in range(len(low)):
            histogram[dimension] += np.bincount(places[:, dimension], minlength=BINS)
    return Statistics(
        low=low,
        high=high,
        mean=total / count,
        q01=_quantile(histogram, 0.01, low, high),
        q99=_quantile(histogram, 0.99, low, high),
        count=count,
    )


def _quantile(histogram: np.ndarray, share: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The value that `share` of the rows lie at or below; an end of the range is met exactly."""
    cumulative = histogram.cumsum(axis=1)
    bin_ = (cumulative >= share * cumulative[:, -1:]).argmax(axis=1)
    middle = low + (bin_ + 0.5) / BINS * (high - low)
    return np.where(bin_ == 0, low, np.where(bin_ == BINS - 1, high, middle))
