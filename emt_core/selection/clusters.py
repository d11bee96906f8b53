"""Cells of the feature space and near-duplicates inside them (SemDeDup, Abbas et al. 2023),
streaming.

Everything is measured by the cosine: features are scaled to length 1, cells are spherical k-means
(Dhillon and Modha 2001). As in SemDeDup a row is compared with *all* better rows of its cell, those
left out included, so the outcome does not depend on the order of the comparisons; unlike there,
"better" is the selection's own rank.

All pairs of a cell are affordable only while cells are small, and a bad k-means leaves most of a
pool in one. So a cell of more than CELL_ROWS rows is split by k-means again, and again where that
was not enough, and rows are compared inside the parts. What SPLITS rounds leave too large (a
million copies of one image) is compared with its CELL_ROWS best rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from emt_core.data.draws import Purpose, ordered_rows, random_keys
from emt_core.data.features import Features, take_finite
from emt_core.proximity.metrics.diversity import l2_normalize
from emt_core.proximity.stream import one_thread, score_blocks
from emt_core.recipe.selection import Clusters

ROUNDS = 25
BLOCK_ROWS = 1024
READ_ROWS = 4096
CELL_ROWS = 32_768
"""Rows of a cell that are compared pair by pair; a larger cell is split. Enters the key of such a
selection."""
PARTS, SPLITS = 64, 4
"""A split makes at most so many parts, and there are at most so many splits one inside the other:
64^4 parts of 32,768 rows are 10^11, so only what k-means cannot take apart is left."""

Advance = Callable[[int], object]
"""Told how many rounds or rows are done; 0: still at it."""


@dataclass(frozen=True, kw_only=True)
class SplitCell:
    cell: int
    rows: int
    parts: int
    best_only: int
    """Rows that were compared with the CELL_ROWS best of their part instead of all better ones."""


def fit_cells(
    features: Features,
    rows: np.ndarray,
    config: Clusters,
    *,
    seed: int,
    advance: Advance = lambda _: None,
) -> np.ndarray:
    """float32 [cells, dim] of length 1, fitted on a seeded sample of `rows`. Fewer rows than cells:
    a cell a row."""
    drawn = np.sort(ordered_rows(random_keys(seed, rows, Purpose.CELLS), config.fit_rows))
    x = unit_rows(features, drawn)
    centers = x[np.random.default_rng([seed, 11]).permutation(len(x))[: config.cells]]
    for _ in range(ROUNDS):
        nearest, similarity = _nearest(x, centers)
        sums = np.zeros((len(centers), x.shape[1]))
        for members in groups_of(nearest):
            sums[nearest[members[0]]] = x[members].sum(axis=0, dtype=np.float64)
        empty = np.flatnonzero(np.bincount(nearest, minlength=len(centers)) == 0)
        sums[empty] = x[
            np.argsort(similarity, kind="stable")[: len(empty)]
        ]  # the worst served rows open new cells
        moved = l2_normalize(sums)
        advance(1)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers


def unit_rows(features: Features, rows: np.ndarray) -> np.ndarray:
    """float32 [n, dim] of length 1, in the order of `rows`; read a few thousand at a time, in the
    store's order."""
    x = np.empty((len(rows), features.dim), np.float32)
    rising = np.argsort(rows, kind="stable")
    for at in range(0, len(rows), READ_ROWS):
        some = rising[at : at + READ_ROWS]
        x[some] = l2_normalize(take_finite(features, rows[some]))
    return x


def groups_of(code: np.ndarray) -> list[np.ndarray]:
    """int64 places of each code that occurs, rising inside a group; groups by rising code. code:
    integer [n]."""
    order = np.argsort(code, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(code[order])) + 1) if len(code) else []


def _nearest(x: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [n] cell, float32 [n] cosine) of length-1 rows; the first of equally near cells."""
    import torch

    with one_thread():
        best = [
            (torch.from_numpy(x[at : at + BLOCK_ROWS]) @ torch.from_numpy(centers).T).max(dim=1)
            for at in range(0, len(x), BLOCK_ROWS)
        ]
    return np.concatenate([b.indices.numpy() for b in best]), np.concatenate(
        [b.values.numpy() for b in best]
    )


def assign_cells(
    features: Features, centers: np.ndarray, *, advance: Advance = lambda _: None
) -> np.ndarray:
    """int32 [rows]: each row's nearest cell, -1 without a vector. One pass; bits as in any other
    cut of the store."""
    import torch

    transposed = torch.from_numpy(np.ascontiguousarray(centers.T))

    def nearest(x: np.ndarray) -> np.ndarray:
        return (
            (torch.from_numpy(l2_normalize(x)) @ transposed).argmax(dim=1).float().numpy()
        )  # below 2^24: exact

    found = np.full(features.rows, -1, np.int32)
    for at, part in score_blocks(features, BLOCK_ROWS, nearest):
        ok = ~np.isnan(part)
        found[at : at + len(part)][ok] = part[ok]
        advance(len(part))
    return found


def near_duplicates(
    features: Features,
    order: np.ndarray,
    cell: np.ndarray,
    *,
    cosine: float,
    seed: int,
    cell_rows: int,
    advance: Advance = lambda _: None,
) -> tuple[np.ndarray, list[SplitCell]]:
    """(bool [rows]: rows of `order` (best first) with at least this cosine to a better row of the
    same cell; the cells that were split first).

    cell: int32 [rows]. Arrays in memory: cell_rows x (dim + 1024) float32; at 32,768 x 1024 the
    process grew by 0.5 GB and used 10 CPU seconds. Products: at most cell_rows a row.
    """
    found, split = np.zeros(len(cell), bool), []
    for members in groups_of(cell[order]):
        rows = order[members]
        if len(rows) < 2 or cell[rows[0]] < 0:
            advance(len(rows))
            continue
        parts = _parts(features, rows, cell_rows, SPLITS, seed, advance)
        for part in parts:
            found[part] = _near_a_better(features, part, cosine, cell_rows)
            advance(len(part))
        if len(rows) > cell_rows:
            best_only = sum(max(len(part) - cell_rows, 0) for part in parts)
            split.append(
                SplitCell(
                    cell=int(cell[rows[0]]), rows=len(rows), parts=len(parts), best_only=best_only
                )
            )
    return found, split


def _parts(
    features: Features, rows: np.ndarray, cell_rows: int, splits: int, seed: int, advance: Advance
) -> list[np.ndarray]:
    """The rows of a cell in parts of at most cell_rows, their order kept; larger where no split is
    left."""
    if len(rows) <= cell_rows or splits == 0:
        return [rows]
    wanted = Clusters(cells=min(PARTS, max(2, 2 * len(rows) // cell_rows)))
    centers = fit_cells(features, rows, wanted, seed=seed, advance=lambda _: advance(0))
    part, rising = np.empty(len(rows), np.int8), np.argsort(rows, kind="stable")
    for at in range(0, len(rows), READ_ROWS):
        some = rising[at : at + READ_ROWS]
        part[some] = _nearest(unit_rows(features, rows[some]), centers)[0]
        advance(0)
    return [
        smaller
        for members in groups_of(part)
        for smaller in _parts(features, rows[members], cell_rows, splits - 1, seed, advance)
    ]


def _near_a_better(
    features: Features, rows: np.ndarray, cosine: float, cell_rows: int
) -> np.ndarray:
    """bool [n]: rows (best first) with at least this cosine to a better one, or one of the
    cell_rows best."""
    import torch

    best = torch.from_numpy(unit_rows(features, rows[:cell_rows]))
    found = []
    with one_thread():
        for at in range(0, len(best), BLOCK_ROWS):
            part = best[at : at + BLOCK_ROWS]
            similar = (part @ best[: at + len(part)].T).tril_(diagonal=at - 1)
            found.append(similar.amax(dim=1) >= cosine)
        for at in range(len(best), len(rows), BLOCK_ROWS):
            part = torch.from_numpy(unit_rows(features, rows[at : at + BLOCK_ROWS]))
            found.append((part @ best.T).amax(dim=1) >= cosine)
    return torch.cat(found).numpy()
