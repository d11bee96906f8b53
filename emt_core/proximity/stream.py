"""One pass over the feature store, block by block: logits of a linear estimator, or any score.

    logit = weight . phi + bias        phi: float16 in the store; products and sums: float32

A float16 matrix-vector product would be as quick, but its *result* is float16: eleven bits, so that
thousands of rows of a large pool would tie, with an error of 1e-3 (measured, 1024 dimensions of
unit variance; here 1e-6). So each block is cast to float32 in a buffer that stays in cache and
multiplied there: the memory bus still sees float16 only. The error is at most `error_bound`.

Every value depends on its row alone, to the last bit: blocks start at fixed rows of the store,
whatever was cut where (commits, files, resumed runs), all blocks have one size, and one thread
works on a block.
"""

from __future__ import annotations

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
from emt_core.run.host import cores

if TYPE_CHECKING:
    import torch

BLOCK_ROWS = 256
"""Rows multiplied at once: 1 MB of float32 at 1024 dimensions, inside a core's L2 cache."""

SCAN_BATCH = 4096
"""Rows read at once: 8 MB at 1024 dimensions; larger reads were slower (fresh pages cost more than
the calls saved)."""


def error_bound(features: np.ndarray, weight: np.ndarray, bias: float) -> np.ndarray:
    """float64 [n]: how far a float32 logit may be from the exact one (Higham 2002, 3.5).

    It holds for any order of summation. features [n, d] and weight [d] as stored: the casts from
    float16 to float32 are exact.
    """
    size = np.abs(features.astype(np.float64)) @ np.abs(weight.astype(np.float64)) + abs(bias)
    terms = (len(weight) + 1) * 2.0**-24
    return size * terms / (1 - terms)


def stream_logits(
    features: Features,
    weight: np.ndarray,
    bias: float,
    *,
    members: tuple[np.ndarray, np.ndarray] | None = None,
    start: int = 0,
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float32 logits [n]) for rows [start, end), in order.

    With members (weights float32 [m, dim], biases float32 [m]): [n, 2], the second column the
    standard deviation of their m logits. NaN where a row has no vector or no finite logit.
    weight: float32 [dim]. Runs on the CPU on purpose: the work is bound by memory, and results do
    not depend on a device.
    """
    import torch

    aligned = start - start % BLOCK_ROWS
    vector = torch.from_numpy(np.ascontiguousarray(weight, np.float32))
    block = torch.zeros(BLOCK_ROWS, len(weight))
    product = torch.empty(BLOCK_ROWS)
    present = np.zeros(BLOCK_ROWS, bool)
    if members is not None:
        of_members = torch.from_numpy(np.ascontiguousarray(members[0], np.float32))
        biases = members[1].astype(np.float32)[:, None]
        products = torch.empty(len(biases), BLOCK_ROWS)
    filled = 0
    at = aligned

    def finished(count: int) -> tuple[int, np.ndarray]:
        torch.mv(block, vector, out=product)
        logit = product.numpy()[:count] + np.float32(bias)
        missing = ~(present[:count] & np.isfinite(logit))
        logit[missing] = np.nan
        skip = max(start - at, 0)
        if members is None:
            return at + skip, logit[skip:]
        # few members times many rows: the other way round it takes three times as long
        torch.mm(of_members, block.T, out=products)
        spread = (products.numpy()[:, :count] + biases).std(axis=0, ddof=1)
        spread[missing] = np.nan
        return at + skip, np.stack([logit, spread], axis=1)[skip:]

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
                filled += count
                used += count
                if filled == BLOCK_ROWS:
                    yield finished(BLOCK_ROWS)
                    at += BLOCK_ROWS
                    filled = 0
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
    """torch on one thread.

    How threads share a product decides its rounding, and waking them costs more than a block takes.
    """
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
    """Blocks that cover rows [start, end).

    The first begins at the multiple of block_rows at or before `start`.
    """
    at = start - start % block_rows
    x: np.ndarray | None = None
    ok = np.zeros(block_rows, bool)
    filled = 0
    for batch in features.table.scan(
        ["vector", "status"], start=at, batch_rows=max(block_rows, 1024)
    ):
        vectors = as_matrix(batch.column(0))
        good = np.asarray(batch.column(1).to_numpy(zero_copy_only=False) == "")
        used = 0
        while used < len(vectors):
            if x is None:
                x = np.zeros((block_rows, vectors.shape[1]), np.float32)
                ok = np.zeros(block_rows, bool)
                filled = 0
            count = min(block_rows - filled, len(vectors) - used)
            part = slice(filled, filled + count)
            x[part] = vectors[used : used + count]
            ok[part] = good[used : used + count]
            filled += count
            used += count
            if filled == block_rows:
                yield _finished(at, x, ok)
                at += block_rows
                x = None
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

    work: float32 [block_rows, dim] -> float32 [block_rows]. It is called from several threads
    (default: one a core), each with torch's own threads switched off. At most two blocks a thread
    are in memory.
    """
    threads = threads or cores()
    with one_thread(), ThreadPoolExecutor(threads, initializer=_one_torch_thread) as pool:
        waiting: deque[tuple[Block, Future[np.ndarray]]] = deque()
        for block in feature_blocks(features, block_rows, start=start):
            waiting.append((block, pool.submit(work, block.x)))
            if len(waiting) > 2 * threads - 1:
                yield _scored(*waiting.popleft(), start)
        while waiting:
            yield _scored(*waiting.popleft(), start)


def _scored(block: Block, future: Future[np.ndarray], start: int) -> tuple[int, np.ndarray]:
    scores = future.result()[: len(block.ok)].astype(np.float32)
    scores[~(block.ok & np.isfinite(scores))] = np.nan
    skip = max(start - block.first, 0)
    return block.first + skip, scores[skip:]


def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)
