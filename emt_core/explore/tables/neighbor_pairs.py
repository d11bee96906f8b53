"""Choose a robot frame or a pool sample, and find its nearest samples of the other role."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emt_core.data.features import Features
from emt_core.data.index import Index, SourceRange
from emt_core.errors import EmtError
from emt_core.explore.tables.nearness import distances

TRIES = 64


def drawn(index: Index, features: Features, role: str, seed: int) -> int | None:
    """A seeded row of this role with a vector; None after TRIES draws without one."""
    sources = index.of_role(role)
    sizes = np.array([source.rows for source in sources], float)
    if not sizes.sum():
        return None
    rng = np.random.default_rng(seed)
    places = rng.choice(len(sources), TRIES, p=sizes / sizes.sum())
    rows = np.array([sources[p].start + int(rng.integers(sources[p].rows)) for p in places])
    status = features.table.take(rows, ["status"]).column(0).to_pylist()
    return next((int(row) for row, reason in zip(rows, status, strict=True) if not reason), None)


def row_in_role(index: Index, sample_id: str, role: str) -> int:
    """Raises EmtError where there is no such sample or it is of the other role."""
    row = index.row_of(sample_id)
    if index.source_of(row).role != role:
        where = f"name a sample of a {role} source"
        raise EmtError(f"{sample_id!r} is not of role {role}", remedy=where)
    return row


@dataclass(frozen=True)
class Frames:
    """The frames of one robot source that are in the index."""

    start: int
    episode: np.ndarray
    """int64 [rows]."""
    frame: np.ndarray
    """int64 [rows]."""

    @classmethod
    def of(cls, index: Index, source: SourceRange) -> Frames:
        columns = (
            index.table.column(name, start=source.start, stop=source.stop).astype(np.int64)
            for name in ("episode", "frame")
        )
        return cls(source.start, *columns)

    def nearest_episode(self, number: int) -> int:
        """The episode of this number, else the next one (some may have been rejected)."""
        later = self.episode[self.episode >= number]
        return int(later.min() if len(later) else self.episode.max())

    def rows_of(self, episode: int) -> np.ndarray:
        """int64: index rows of an episode's frames."""
        return self.start + np.flatnonzero(self.episode == episode)


def nearest_of_all(
    features: Features, row: int, candidates: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """(int64 rows, float32 distances, rows searched): the nearest of `candidates` (bool [rows]).

    Exact, in one pass over the store. Raises EmtError where the row has no vector.
    """
    vector = features.take([row])[0]
    if not np.any(vector):
        raise EmtError("this sample has no feature")
    found = distances(features, vector)
    found[~candidates] = np.nan
    found[row] = np.nan
    searched = int(np.isfinite(found).sum())
    count = min(count, searched)
    if not count:
        return np.empty(0, np.int64), np.empty(0, np.float32), 0
    filled = np.where(np.isfinite(found), found, np.inf)
    near = np.argpartition(filled, count - 1)[:count]
    near = near[np.lexsort((near, filled[near]))]
    return near.astype(np.int64), found[near], searched
