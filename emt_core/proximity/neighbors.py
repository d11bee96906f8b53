"""Nearest robot frames of a sample, nearest samples of a frame: L2 in the encoder's own space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emt_core.data.draws import spread
from emt_core.data.features import Features, as_matrix
from emt_core.data.index import Index

BANK_ROWS = 20_000
"""Rows kept in memory at the most: 20,000 x 1,024 float32 are 80 MB and answer in some 20 ms."""


@dataclass(frozen=True)
class FeatureBank:
    """A bounded set of rows with their vectors, searched exactly."""

    rows: np.ndarray
    """int64 [n]: index rows."""

    vectors: np.ndarray
    """float32 [n, dim]."""

    total: int
    """Rows that could have been in the bank; more than `len(rows)` where it is a sample."""

    @cached_property
    def _squared(self) -> np.ndarray:
        """float32 [n]: squared norms."""
        return np.einsum("nd,nd->n", self.vectors, self.vectors)

    def nearest(self, vector: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(int64 rows, float32 L2 distances), nearest first, at most k. vector: float [dim]."""
        if not len(self.rows) or k < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        query = np.asarray(vector, np.float32)
        squared = self._squared - 2 * (self.vectors @ query) + query @ query
        k = min(k, len(self.rows))
        near = np.argpartition(squared, k - 1)[:k]
        near = near[np.lexsort((self.rows[near], squared[near]))]
        # the expanded square loses digits near zero, so the few distances shown are computed anew
        distance = np.linalg.norm(self.vectors[near] - query, axis=1)
        return self.rows[near], distance.astype(np.float32)


def robot_bank(
    index: Index, features: Features, *, limit: int = BANK_ROWS, seed: int = 0
) -> FeatureBank:
    """All robot frames with a vector, or a seeded sample of `limit`, even over the sets."""
    candidates = []
    for source in index.of_role("robot"):
        ok = features.ok(start=source.start, stop=source.stop)
        candidates.append(source.start + np.flatnonzero(ok))
    total = sum(len(rows) for rows in candidates)
    if total > limit:
        rng = np.random.default_rng(seed)
        share = limit // max(len(candidates), 1)
        candidates = [np.sort(rng.choice(r, min(share, len(r)), replace=False)) for r in candidates]
    rows = np.concatenate([np.empty(0, np.int64), *candidates])
    return FeatureBank(rows, features.take(rows).astype(np.float32), total)


def pool_bank(
    index: Index, features: Features, *, limit: int = BANK_ROWS, seed: int = 0
) -> FeatureBank:
    """All pool samples with a vector, or a seeded sample of `limit` with a floor for small sources.

    Rows are drawn first and read then, so work and memory follow `limit`, not the pool. `total`
    counts all pool rows, those without a vector included.
    """
    sources = index.of_role("pool")
    counts = spread([source.rows for source in sources], limit)
    rng = np.random.default_rng(seed)
    drawn = [
        source.start + np.sort(rng.choice(source.rows, int(count), replace=False))
        for source, count in zip(sources, counts, strict=True)
    ]
    rows = np.concatenate([np.empty(0, np.int64), *drawn])
    total = sum(source.rows for source in sources)
    if not len(rows):
        return FeatureBank(rows, np.empty((0, features.dim), np.float32), total)
    table = features.table.take(rows, ["vector", "status"]).combine_chunks()
    ok = np.asarray(table.column("status").to_numpy(zero_copy_only=False) == "")
    vectors = as_matrix(table.column("vector").chunk(0))[ok].astype(np.float32)
    return FeatureBank(rows[ok], vectors, total)
