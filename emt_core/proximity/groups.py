"""Rows that belong together: they share a picture, or are frames of one episode.

Two questions about one picture have nearly the same feature. If one trained and the other tested,
the test would measure memory (8 rows a picture, nothing to learn: AUROC .8 instead of .5,
docs/measures.md). So a split or a fold takes such rows together, pool and robot data alike.

A picture is told by where it lies (source folder, file, member, row or time in it), not by its
bytes: copies under two names count as two pictures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import PurePath

import numpy as np
import pyarrow as pa
from pandas import util

from emt_core.data.draws import GAMMA, mix64
from emt_core.data.index import Index, SourceRange
from emt_core.workspace.artifact import Artifact

SCAN_ROWS = 65_536
hashed: Callable[[np.ndarray], np.ndarray] = util.hash_array  # pyright: ignore
"""uint64 [n] of n values, the same on every machine."""

WORDS = ("kind", "path", "member")
NUMBERS = ("index", "time", "position")


def groups_of(index: Index) -> np.ndarray:
    """int64 [rows]: the smallest row that each row is tied to by pictures or an episode.

    Ties carry over: rows 1 and 3 are one group where 1 shares a picture with 2 and 2 with 3. A row
    that shares nothing is a group of its own. 80 bytes a row while it is worked out, 8 then.
    """
    return _groups(index.artifact)


@lru_cache(maxsize=1)
def _groups(sources: Artifact) -> np.ndarray:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    index = Index(sources)
    n = index.rows
    ties = [_ties(*_pictures(index)), _ties(*_episodes(index))]
    first = np.concatenate([a for a, _ in ties])
    second = np.concatenate([b for _, b in ties])
    if not len(first):
        return np.arange(n)
    edges = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    _, group = connected_components(edges, directed=False)
    _, smallest = np.unique(group, return_index=True)
    return smallest[group].astype(np.int64)


def _ties(keys: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows with an equal key: as many as join all of them, not every pair."""
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    ordered = rows[order]
    return ordered[:-1][same], ordered[1:][same]


def _episodes(index: Index) -> tuple[np.ndarray, np.ndarray]:
    """(uint64 hash of each robot row's episode, int64 the row).

    Two sources may read one robot set, by another camera each, or the pool its annotations: its
    episodes are the same.
    """
    keys = [np.empty(0, np.uint64)]
    rows = [np.empty(0, np.int64)]
    for source in index.sources:
        if source.role == "pool" and source.facts.get("format") != "lerobot":
            continue
        of = _robot_set(index, source)
        episode = index.table.column("episode", start=source.start, stop=source.stop)
        with np.errstate(over="ignore"):
            keys.append(mix64(_hash_of_text(of) * GAMMA + hashed(episode)))
        rows.append(np.arange(source.start, source.stop))
    return np.concatenate(keys), np.concatenate(rows)


def _robot_set(index: Index, source: SourceRange) -> str:
    """What tells the set that a source's episodes are of: folder, split, and file where it is one.

    Rows of a format without episodes are of a set of their own.
    """
    match source.facts.get("format"):
        case "lerobot":
            return _folder(source)
        case "hdf5":
            return _folder(source) + PurePath(index.config_of(source)["path"]).name
        case "rlds":
            return _folder(source) + index.config_of(source)["split"]
    return f"{source.name}:"


def _folder(source: SourceRange) -> str:
    return os.path.normpath(str(source.facts["root"])).rstrip("/") + "/"


def _pictures(index: Index) -> tuple[np.ndarray, np.ndarray]:
    """(uint64 hash of each picture of each row, int64 its row)."""
    keys = [np.empty(0, np.uint64)]
    rows = [np.empty(0, np.int64)]
    for source in index.sources:
        for of_batch, their_rows in _pictures_of(index, source):
            keys.append(of_batch)
            rows.append(their_rows)
    return np.concatenate(keys), np.concatenate(rows)


def _pictures_of(index: Index, source: SourceRange) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    at = source.start
    folder = _folder(source)
    for batch in index.table.scan(
        ["images"], start=source.start, stop=source.stop, batch_rows=SCAN_ROWS
    ):
        images = batch.column(0)
        lengths = np.diff(images.offsets.to_numpy())
        rows = at + np.repeat(np.arange(batch.num_rows), lengths)
        yield _picture_hashes(images.flatten(), folder), rows
        at += batch.num_rows


def _picture_hashes(images: pa.StructArray, folder: str) -> np.ndarray:
    """uint64 [n] of structs as in data.index.IMAGE_TYPE, whose paths begin at `folder`."""
    key = np.zeros(len(images), np.uint64)
    with np.errstate(over="ignore"):
        for name in (*WORDS, *NUMBERS):
            before = folder if name == "path" else ""
            key = mix64(key * GAMMA + _hash_of(images.field(name), before))
    return key


def _hash_of(column: pa.Array, before: str) -> np.ndarray:
    """uint64 [n]. before: what every text begins with, so that a file has one name by any root."""
    if pa.types.is_string(column.type):
        words = column.dictionary_encode()
        names = before + words.dictionary.to_numpy(zero_copy_only=False)
        codes = words.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
        return np.append(hashed(names), np.uint64(0))[codes]
    missing = -1.0 if pa.types.is_floating(column.type) else -1
    return hashed(column.fill_null(missing).to_numpy(zero_copy_only=False))


def _hash_of_text(text: str) -> np.uint64:
    return hashed(np.array([text], object))[0]
