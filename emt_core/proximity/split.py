"""Train / validation / test split by seeded hash: robot data by whole episodes, the pool row by row.

Frames of one episode are nearly the same picture. If some trained and others tested, the test would measure memory.
A hash of (seed, source, number) instead of a shuffle keeps a row's part when other sources come or go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from emt_core.data.index import Index, SourceRange
from emt_core.errors import EmtError

TRAIN, VALIDATION, TEST, NO_VECTOR = 0, 1, 2, 255
PARTS = 3


class Split(Protocol):
    """The settings of a split; EstimatorConfig and every SplitMeasure have them."""

    @property
    def validation_share(self) -> float: ...
    @property
    def test_share(self) -> float: ...
    @property
    def seed(self) -> int: ...


def seeded_hash(numbers: np.ndarray, salt: str) -> np.ndarray:
    """uint64 [n], well mixed (splitmix64, Steele et al. 2014): the same number and salt give the same hash anywhere."""
    offset = np.frombuffer(hashlib.sha256(salt.encode()).digest()[:8], np.uint64)[0]
    with np.errstate(over="ignore"):
        z = np.asarray(numbers).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + offset
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def split_by_hash(hashes: np.ndarray, *, validation: float, test: float) -> np.ndarray:
    """uint8 [n] of TRAIN, VALIDATION, TEST in the given shares, rounded, at least one of each. Needs n >= 3."""
    n = len(hashes)
    n_test = min(max(round(n * test), 1), n - 2)
    n_validation = min(max(round(n * validation), 1), n - 1 - n_test)
    first, second = np.partition(hashes, [n_test - 1, n_test + n_validation - 1])[
        [n_test - 1, n_test + n_validation - 1]
    ]
    return np.where(hashes <= first, TEST, np.where(hashes <= second, VALIDATION, TRAIN)).astype(
        np.uint8
    )


def split_of(config: Split, index: Index, ok: np.ndarray) -> np.ndarray:
    """The split that these settings ask for: see split_rows."""
    return split_rows(
        index, ok, validation=config.validation_share, test=config.test_share, seed=config.seed
    )


def split_rows(
    index: Index, ok: np.ndarray, *, validation: float, test: float, seed: int
) -> np.ndarray:
    """uint8 [rows]: the part of every row of the index, NO_VECTOR where `ok` is False.

    Raises EmtError without pool or robot data, with fewer than 3 pool rows, or fewer than 3 episodes in a robot set.
    """
    pool, robots = index.of_role("pool"), index.of_role("robot")
    _need(pool, robots, index)
    part = np.full(index.rows, NO_VECTOR, np.uint8)
    hashes, rows = [], []
    for source in pool:
        local = np.flatnonzero(ok[source.start : source.stop])
        hashes.append(seeded_hash(local, f"{seed}:{source.name}"))
        rows.append(local + source.start)
    found = sum(map(len, rows))
    if found < PARTS:
        raise EmtError(
            f"only {found} pool samples have a vector, and training, stopping and testing need one each",
            where=index.artifact.path,
            remedy="look at the status counts of `embed`, and at the rejects of `sources`",
        )
    part[np.concatenate(rows)] = split_by_hash(
        np.concatenate(hashes), validation=validation, test=test
    )
    for source in robots:
        _split_episodes(part, index, source, ok, validation, test, seed)
    return part


def _need(pool: Sequence[SourceRange], robots: Sequence[SourceRange], index: Index) -> None:
    for role, found in (("pool", pool), ("robot", robots)):
        if not found:
            names = ", ".join(source.name for source in index.sources)
            raise EmtError(
                f"no source has role {role!r}: the estimator tells robot data from the pool and needs both",
                where=f"sources: {names}",
                remedy=f"add a source with `role: {role}` to the recipe",
            )


def _split_episodes(
    part: np.ndarray,
    index: Index,
    source: SourceRange,
    ok: np.ndarray,
    validation: float,
    test: float,
    seed: int,
) -> None:
    rows = np.flatnonzero(ok[source.start : source.stop]) + source.start
    episode = index.table.column("episode", start=source.start, stop=source.stop)[
        rows - source.start
    ]
    episodes, of_row = np.unique(episode, return_inverse=True)
    if len(episodes) < PARTS:
        count = f"{len(episodes)} episode{'s' * (len(episodes) != 1)}"
        raise EmtError(
            f"robot set {source.name!r} has {count} with a vector; it takes at least {PARTS}, "
            "because training, stopping and testing share none",
            where=source.facts.get("root", source.name),
            remedy="add episodes, join it with another set of the same robot, or leave it out of the recipe",
        )
    salted = seeded_hash(episodes, f"{seed}:{source.name}")
    part[rows] = split_by_hash(salted, validation=validation, test=test)[of_row]


def rows_of_part(index: Index, part: np.ndarray, value: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """(int64 pool rows, int64 rows of each robot set) whose part (uint8 [rows], see split.py) is `value`."""
    member = part == value
    pool = np.concatenate(
        [np.flatnonzero(member[s.start : s.stop]) + s.start for s in index.of_role("pool")]
    )
    robots = [np.flatnonzero(member[s.start : s.stop]) + s.start for s in index.of_role("robot")]
    return pool, robots
