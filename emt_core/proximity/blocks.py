"""Features of all rows in blocks of one size, and work on them spread over the cores with the same bits for any count.

Blocks start at fixed rows of the store and are padded to one size, so a row meets the same arithmetic whatever was
committed where and wherever a resumed run begins; one thread works on a block.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from emt_core.scoring import one_thread
from emt_core.store import Features, as_matrix


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
    for batch in features.table.scan(["vector", "status"], start=at, batch_rows=max(block_rows, 1024)):
        vectors = as_matrix(batch.column(0))
        good = np.asarray(batch.column(1).to_numpy(zero_copy_only=False) == "")
        used = 0
        while used < len(vectors):
            if x is None:
                x, ok, filled = np.zeros((block_rows, vectors.shape[1]), np.float32), np.zeros(block_rows, bool), 0
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
    found = np.where(block.ok, future.result()[: len(block.ok)], np.float32(np.nan)).astype(np.float32)
    found[~np.isfinite(found)] = np.nan
    skip = max(start - block.first, 0)
    return block.first + skip, found[skip:]


def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)
