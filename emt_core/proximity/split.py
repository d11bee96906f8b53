"""Train / validation / test split by seeded hash: robots by whole episodes, the pool by picture.

Rows that share a picture or an episode (proximity/groups.py) fall on one side, else the test would
measure memory. A hash of (seed, source, row) instead of a shuffle keeps a row's part when other
sources come or go.

Pool rows without a picture take no part unless asked for: `select` never takes them, and telling
them from robot data is so easy that a training would stop before it learned anything else.
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
from emt_core.data.readers import locate, robot_set
from emt_core.errors import EmtError
from emt_core.proximity.groups import groups_of
from emt_core.recipe.proximity import EstimatorConfig, SplitMeasure
from emt_core.recipe.sources import EpisodeSource, SourcesConfig

TRAIN = 0
VALIDATION = 1
TEST = 2
NO_VECTOR = 255
TEXT_ONLY = 254
"""Parts of rows that no training sees: those without a vector, pool rows without a picture."""

PARTS = 3


Split = EstimatorConfig | SplitMeasure
"""The settings of a split: validation_share, test_share, include_text_only, seed."""


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
        index,
        ok,
        validation=config.validation_share,
        test=config.test_share,
        seed=config.seed,
        include_text_only=config.include_text_only,
    )


def split_rows(
    index: Index,
    ok: np.ndarray,
    *,
    validation: float,
    test: float,
    seed: int,
    include_text_only: bool = False,
) -> np.ndarray:
    """uint8 [rows]: the part of every row, NO_VECTOR where `ok` is False, or TEXT_ONLY.

    Shares are of groups: of episodes for a robot set, of pictures for the pool. A group with more
    rows than both held-out parts should have (those of a blank picture, say) trains. A pool picture
    that is a robot frame takes that frame's part. Raises EmtError without pool or robot data, and
    where the pool or a robot set has fewer than 3 groups.
    """
    _check_roles([(source.name, source.role) for source in index.sources])
    part = np.where(ok, TRAIN, NO_VECTOR).astype(np.uint8)
    if not include_text_only:
        part[ok & index.is_pool() & (index.table.column("n_images") == 0)] = TEXT_ONLY
    groups = groups_of(index)
    decided = np.full(index.rows, NO_VECTOR, np.uint8)  # of the group that begins at a row
    for sources in (*([robot] for robot in index.of_role("robot")), index.of_role("pool")):
        rows = np.concatenate([np.arange(source.start, source.stop) for source in sources])
        rows = rows[part[rows] == TRAIN]
        begins = np.zeros(index.rows, bool)
        begins[groups[rows]] = True
        mine = np.flatnonzero(begins)
        fresh = mine[decided[mine] == NO_VECTOR]
        if len(fresh) >= PARTS:
            large = np.bincount(groups[rows])[fresh] > (validation + test) * len(rows)
            decided[fresh] = split_by_hash(
                _behind(_group_hashes(index, fresh, seed), large), validation=validation, test=test
            )
        else:
            decided[fresh] = TRAIN
        if len(np.unique(decided[mine])) < PARTS:
            raise _too_few(index, sources, len(mine), len(rows), int((part == TEXT_ONLY).sum()))
        part[rows] = decided[groups[rows]]
    return part


def held_out(index: Index, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """bool [rows of the index]: those that training on `rows` has to leave out.

    A share of the groups that `rows` fall into, with every row of these groups, also outside of
    `rows`. A group of more rows than the share is taken last. Raises EmtError where there is but
    one group.
    """
    groups = groups_of(index)
    first, sizes = np.unique(groups[rows], return_counts=True)
    if len(first) < 2:
        raise EmtError(
            "all selected samples share one picture: none can be held out",
            where="midtrain.validation_share",
            remedy="set it to 0, or select more",
        )
    count = min(max(round(len(first) * share), 1), len(first) - 1)
    hashes = _behind(_group_hashes(index, first, f"{seed}:midtrain"), sizes > share * len(rows))
    held = np.zeros(index.rows, bool)
    held[first[np.argpartition(hashes, count - 1)[:count]]] = True
    return held[groups]


def _group_hashes(index: Index, first: np.ndarray, seed: int | str) -> np.ndarray:
    """uint64 of each group: hash of (seed, source, row in the source) of its first row.

    first: int64, rising.
    """
    cuts = np.searchsorted(first, [source.stop for source in index.sources])
    parts = np.split(first, cuts)[: len(index.sources)]
    of_source = zip(index.sources, parts, strict=True)
    return np.concatenate(
        [seeded_hash(rows - s.start, f"{seed}:{s.name}") for s, rows in of_source]
    )


def _behind(hashes: np.ndarray, large: np.ndarray) -> np.ndarray:
    """The hashes in the same order, but the large ones (bool [n]) behind all others."""
    return (hashes >> np.uint64(1)) | (large.astype(np.uint64) << np.uint64(63))


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
        if source.role == "robot" and isinstance(source, EpisodeSource):
            root = locate(source, base)
            first = list(islice(robot_set(source, root).episodes(), PARTS))
            if len(first) < PARTS:
                raise _too_few_episodes(source.name, len(first), "", root)


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


def _too_few(
    index: Index, sources: list[SourceRange], groups: int, rows: int, text_only: int
) -> EmtError:
    """The error where a robot set or the pool cannot be split in three."""
    if sources[0].role == "pool":
        remedy = "look at the status counts of `embed` and the rejects of `sources`"
        if text_only:
            remedy = f"`include_text_only: true` lets the {text_only:,} text-only rows train"
        elif rows >= PARTS:
            remedy = "a picture that nearly all rows have ties them into one group: leave it out"
        return EmtError(
            f"{rows:,} pool samples may train (with an image and a vector), in {groups} "
            f"group{'s' * (groups != 1)} that share no picture; training, stopping and testing "
            "need one each",
            where=index.artifact.path,
            remedy=remedy,
        )
    robot = sources[0]
    where = robot.facts.get("root", robot.name)
    return _too_few_episodes(robot.name, groups, " with a vector", where)


def _too_few_episodes(name: str, count: int, which: str, where: object) -> EmtError:
    return EmtError(
        f"robot set {name!r} has {count} episode{'s' * (count != 1)}{which}; it takes at least "
        f"{PARTS}, because training, stopping and testing share none",
        where=where,
        remedy="add episodes, join it with another set of the same robot, "
        "or leave it out of the recipe",
    )
