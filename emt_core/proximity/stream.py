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

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from emt_core.data.features import Features, as_matrix

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
    size = np.abs(features.astype(np.float64)) @ np.abs(weight.astype(np.float64)) + abs(
        float(bias)
    )
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
        for batch in features.table.scan(
            ["vector", "status"], start=aligned, batch_rows=SCAN_BATCH
        ):
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


@dataclass(frozen=True)
class Block:
    first: int
    """Index row of x[0]."""

    x: np.ndarray
    """float32 [block_rows, dim]; zeros where there is no vector and behind the last row."""

    ok: np.ndarray
    """bool [rows that exist]."""


def feature_blocks(features: Features, block_rows: int, *, start: int = 0) -> Iterator[Block]:
    """Blocks that cover rows [start, end); the first begins at the multiple of block_rows at or before `start`."""
    at, x, ok, filled = start - start % block_rows, None, np.zeros(block_rows, bool), 0
    for batch in features.table.scan(
        ["vector", "status"], start=at, batch_rows=max(block_rows, 1024)
    ):
        vectors = as_matrix(batch.column(0))
        good = np.asarray(batch.column(1).to_numpy(zero_copy_only=False) == "")
        used = 0
        while used < len(vectors):
            if x is None:
                x, ok, filled = (
                    np.zeros((block_rows, vectors.shape[1]), np.float32),
                    np.zeros(block_rows, bool),
                    0,
                )
            count = min(block_rows - filled, len(vectors) - used)
            part = slice(filled, filled + count)
            x[part] = vectors[used : used + count]
            ok[part] = good[used : used + count]
            filled, used = filled + count, used + count
            if filled == block_rows:
                yield _finished(at, x, ok)
                at, x = at + block_rows, None
    if x is not None:
        yield _finished(at, x, ok[:filled])


def _finished(first: int, x: np.ndarray, ok: np.ndarray) -> Block:
    ok = ok & np.isfinite(x[: len(ok)]).all(axis=1)
    x[: len(ok)][~ok] = 0
    return Block(first, x, ok)


def score_blocks(
    features: Features,
    block_rows: int,
    work: Callable[[np.ndarray], np.ndarray],
    *,
    start: int = 0,
    threads: int | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float32 scores) for rows [start, end), in order; NaN where a row has no vector.

    work: float32 [block_rows, dim] -> float32 [block_rows], called from several threads (default: a core each), each of
    which has torch's own threads switched off. At most two blocks a thread are in memory.
    """
    threads = threads or os.cpu_count() or 1
    with one_thread(), ThreadPoolExecutor(threads, initializer=_one_torch_thread) as pool:
        waiting: deque[tuple[Block, Future[np.ndarray]]] = deque()
        blocks = feature_blocks(features, block_rows, start=start)
        for block in blocks:
            waiting.append((block, pool.submit(work, block.x)))
            if len(waiting) > 2 * threads - 1:
                yield _scored(*waiting.popleft(), start)
        while waiting:
            yield _scored(*waiting.popleft(), start)


def _scored(block: Block, future: Future[np.ndarray], start: int) -> tuple[int, np.ndarray]:
    found = np.where(block.ok, future.result()[: len(block.ok)], np.float32(np.nan)).astype(
        np.float32
    )
    found[~np.isfinite(found)] = np.nan
    skip = max(start - block.first, 0)
    return block.first + skip, found[skip:]


def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)
