"""Range, mean and percentiles of action dimensions, over blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

Blocks = Callable[[], Iterable[np.ndarray]]
"""Each call gives the same blocks, float [n, d] each."""


def ranges(blocks: Blocks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lowest, highest, mean), float64 [d] each, in one pass. Raises ValueError for no rows."""
    low = np.inf
    high = -np.inf
    total = 0.0
    count = 0
    for block in blocks():
        if len(block):
            block = block.astype(np.float64)
            low = np.minimum(low, block.min(axis=0))
            high = np.maximum(high, block.max(axis=0))
            total = total + block.sum(axis=0)
            count += len(block)
    if not count:
        raise ValueError("no rows")
    return np.asarray(low), np.asarray(high), np.asarray(total) / count


def percentiles(blocks: Blocks, shares: Sequence[float]) -> np.ndarray:
    """float64 [len(shares), d]: numpy's quantiles of each dimension. Raises ValueError for no rows.

    One dimension is in memory at a time, twice, in float32: 80 MB for 10^7 rows. Actions of kind
    delta have a row for each step of each chunk: 0.8 GB for 10^7 frames and chunks of ten.
    """
    d = next((block.shape[1] for block in blocks() if len(block)), None)
    if d is None:
        raise ValueError("no rows")
    columns = []
    for dimension in range(d):
        # a copy of the column: a view would keep its whole block in memory
        parts = [block[:, dimension].astype(np.float32) for block in blocks()]
        columns.append(np.quantile(np.concatenate(parts), shares, overwrite_input=True))
    return np.stack(columns, axis=1).astype(np.float64)
