"""Logits of a linear estimator for every row of a feature store, in one streaming pass at the store's own speed.

    logit = weight . phi + bias        phi: float16 in the store; products and sums: float32

A float16 matrix-vector product would be as quick, but its *result* is float16: eleven bits, so thousands of rows of a
large pool would tie and the error is 1e-3 (measured, 1024 dimensions of unit variance; here 1e-6). So each block is
cast to float32 in a buffer that stays in cache, and multiplied there: the memory bus still sees float16 only. The error
is at most `error_bound`.

Every value depends on its row alone, to the last bit: blocks start at fixed rows of the store, whatever was cut where
(commits, files, resumed runs), all blocks have one size, and one thread works on a block.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from emt_core.store import Features, as_matrix

if TYPE_CHECKING:
    import torch

BLOCK_ROWS = 256
"""Rows multiplied at once: 1 MB of float32 at 1024 dimensions, inside a core's L2 cache."""
SCAN_BATCH = 4096
"""Rows read at once: 8 MB at 1024 dimensions; larger reads were slower (fresh pages cost more than the calls saved)."""


def error_bound(features: np.ndarray, weight: np.ndarray, bias: float) -> np.ndarray:
    """float64 [n]: how far a float32 logit may be from the exact one, in any order of summation (Higham 2002, 3.5).

    features [n, d] and weight [d] as stored: the casts float16 -> float32 are exact.
    """
    size = np.abs(features.astype(np.float64)) @ np.abs(weight.astype(np.float64)) + abs(float(bias))
    terms = (len(weight) + 1) * 2.0**-24
    return size * terms / (1 - terms)


def stream_logits(
    features: Features, weight: np.ndarray, bias: float, *, start: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float32 logits) for rows [start, end) in order; NaN where a row has no vector or no finite logit.

    weight: float32 [dim]. Runs on the CPU on purpose: the work is memory-bound, and results do not depend on a device.
    """
    import torch

    aligned = start - start % BLOCK_ROWS
    vector = torch.from_numpy(np.ascontiguousarray(weight, np.float32))
    block, product = torch.zeros(BLOCK_ROWS, len(weight)), torch.empty(BLOCK_ROWS)
    present, filled, at = np.zeros(BLOCK_ROWS, bool), 0, aligned

    def finished(count: int) -> tuple[int, np.ndarray]:
        torch.mv(block, vector, out=product)
        logit = product.numpy()[:count] + np.float32(bias)
        logit[~(present[:count] & np.isfinite(logit))] = np.nan
        skip = max(start - at, 0)
        return at + skip, logit[skip:]

    with one_thread():
        for batch in features.table.scan(["vector", "status"], start=aligned, batch_rows=SCAN_BATCH):
            rows = _tensor(as_matrix(batch.column(0)))
            ok = np.asarray(pc.equal(batch.column(1), ""))  # pyright: ignore[reportAttributeAccessIssue]
            used = 0
            while used < len(rows):
                count = min(BLOCK_ROWS - filled, len(rows) - used)
                block[filled : filled + count].copy_(rows[used : used + count])
                present[filled : filled + count] = ok[used : used + count]
                filled, used = filled + count, used + count
                if filled == BLOCK_ROWS:
                    yield finished(BLOCK_ROWS)
                    at, filled = at + BLOCK_ROWS, 0
        if filled:
            yield finished(filled)


def _tensor(matrix: np.ndarray) -> torch.Tensor:
    """A float16 view of the read buffer, which is only ever read."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(matrix)


@contextmanager
def one_thread() -> Iterator[None]:
    """How threads share a product decides its rounding; besides, waking them costs more than a block takes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
