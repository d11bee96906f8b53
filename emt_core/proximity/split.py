"""Train / validation / test split by seeded hash: robot data by whole episodes, the pool by rows.

Frames of one episode are nearly the same picture: if some trained and others tested, the test would
measure memory. A hash of (seed, source, number) instead of a shuffle keeps a row's part when other
sources come or go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from emt_core.data.draws import GAMMA, mix64
from emt_core.data.features import Features
from emt_core.data.index import Index, SourceRange
from emt_core.data.readers import locate
from emt_core.data.readers.lerobot import episodes_of
from emt_core.data.readers.lerobot_meta import load_meta
from emt_core.errors import EmtError
from emt_core.recipe.proximity import EstimatorConfig, SplitMeasure
from emt_core.recipe.sources import LeRobotSource, SourcesConfig

TRAIN = 0
VALIDATION = 1
TEST = 2
NO_VECTOR = 255
PARTS = 3


Split = EstimatorConfig | SplitMeasure
"""The settings of a split: validation_share, test_share, seed."""


def training_rows(
    config: Split, index: Index, features: Features
) -> tuple[np.ndarray, list[np.ndarray]]:
    """(int64 pool rows, int64 rows of each robot set) of the training part.

    The same split as the estimator's. Raises EmtError as `split_rows` does.
    """
    return rows_of_part(index, split_of(config, index, features.ok()), TRAIN)


def rows_of_part(index: Index, part: np.ndarray, value: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """(int64 pool rows, int64 rows of each robot set) whose part is `value`.

    part: uint8 [rows], from `split_rows`.
    """

    def rows_of(source: SourceRange) -> np.ndarray:
        return np.flatnonzero(part[source.start : source.stop] == value) + source.start

    pool = np.concatenate([rows_of(source) for source in index.of_role("pool")])
    return pool, [rows_of(source) for source in index.of_role("robot")]


def split_of(config: Split, index: Index, ok: np.ndarray) -> np.ndarray:
    """The split that these settings ask for: see split_rows."""
    return split_rows(
        index, ok, validation=config.validation_share, test=config.test_share, seed=config.seed
    )


def split_rows(
    index: Index, ok: np.ndarray, *, validation: float, test: float, seed: int
) -> np.ndarray:
    """uint8 [rows]: the part of every row of the index, NO_VECTOR where `ok` is False.

    Raises EmtError without pool or robot data, with fewer than 3 pool rows, or with fewer than 3
    episodes in a robot set.
    """
    _check_roles([(source.name, source.role) for source in index.sources])
    part = np.full(index.rows, NO_VECTOR, np.uint8)
    hashes, rows = [], []
    for source in index.of_role("pool"):
        local = np.flatnonzero(ok[source.start : source.stop])
        hashes.append(seeded_hash(local, f"{seed}:{source.name}"))
        rows.append(local + source.start)
    pool_rows = np.concatenate(rows)
    if len(pool_rows) < PARTS:
        raise EmtError(
            f"only {len(pool_rows)} pool samples have a vector, "
            "and training, stopping and testing need one each",
            where=index.artifact.path,
            remedy="look at the status counts of `embed`, and at the rejects of `sources`",
        )
    part[pool_rows] = split_by_hash(np.concatenate(hashes), validation=validation, test=test)
    for source in index.of_role("robot"):
        with_vector, episodes, of_row = _episodes(index, source, ok)
        salted = seeded_hash(episodes, f"{seed}:{source.name}")
        part[with_vector] = split_by_hash(salted, validation=validation, test=test)[of_row]
    return part


def split_by_hash(hashes: np.ndarray, *, validation: float, test: float) -> np.ndarray:
    """uint8 [n] of TRAIN, VALIDATION, TEST in the given shares, rounded, at least one of each.

    The smallest hashes test, the next validate. Needs n >= 3.
    """
    n = len(hashes)
    n_test = min(max(round(n * test), 1), n - 2)
    n_validation = min(max(round(n * validation), 1), n - 1 - n_test)
    last = [n_test - 1, n_test + n_validation - 1]
    last_test, last_validation = np.partition(hashes, last)[last]
    part = np.where(hashes <= last_validation, VALIDATION, TRAIN)
    return np.where(hashes <= last_test, TEST, part).astype(np.uint8)


def seeded_hash(numbers: np.ndarray, salt: str) -> np.ndarray:
    """uint64 [n], well mixed: the same number and salt give the same hash anywhere."""
    offset = np.frombuffer(hashlib.sha256(salt.encode()).digest()[:8], np.uint64)[0]
    with np.errstate(over="ignore"):
        return mix64(np.asarray(numbers).astype(np.uint64) * GAMMA + offset)


def check_sources(config: SourcesConfig, base: Path) -> None:
    """Raises EmtError where settings and metadata show that no split can be made."""
    _check_roles([(source.name, source.role) for source in config.sources])
    for source in config.sources:
        if source.role == "robot" and isinstance(source, LeRobotSource):
            root = locate(source, base)
            first = list(islice(episodes_of(source, load_meta(root)), PARTS))
            _check_episodes(source.name, len(first), "", root)


def _check_roles(sources: Sequence[tuple[str, str]]) -> None:
    """sources: (name, role) of each. Raises EmtError where pool or robot data are missing."""
    for wanted in ("pool", "robot"):
        if wanted not in {role for _, role in sources}:
            names = ", ".join(name for name, _ in sources)
            raise EmtError(
                f"no source has role {wanted!r}: the estimator tells robot data from the pool "
                "and needs both",
                where=f"sources: {names}",
                remedy=f"add a source with `role: {wanted}` to the recipe",
            )


def _check_episodes(name: str, count: int, which: str, where: object) -> None:
    if count < PARTS:
        raise EmtError(
            f"robot set {name!r} has {count} episode{'s' * (count != 1)}{which}; it takes at least "
            f"{PARTS}, because training, stopping and testing share none",
            where=where,
            remedy="add episodes, join it with another set of the same robot, "
            "or leave it out of the recipe",
        )


def _episodes(
    index: Index, source: SourceRange, ok: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows of a robot set with a vector, its episodes, place of each row's episode)."""
    local = np.flatnonzero(ok[source.start : source.stop])
    episode = index.table.column("episode", start=source.start, stop=source.stop)[local]
    episodes, of_row = np.unique(episode, return_inverse=True)
    _check_episodes(
        source.name, len(episodes), " with a vector", source.facts.get("root", source.name)
    )
    return local + source.start, episodes, of_row
