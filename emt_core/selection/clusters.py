"""Cells of the feature space and near-duplicates inside them (SemDeDup, Abbas et al. 2023).

Everything is measured by the cosine: features are scaled to length 1, cells are spherical k-means
(Dhillon and Modha 2001). As in SemDeDup, a row is compared with *all* better rows of its cell,
those left out included, so the outcome does not depend on the order of the comparisons; unlike
there, "better" is the selection's own rank.

All pairs of a cell are affordable only while cells are small, and a bad k-means leaves most of a
pool in one. So a cell of more than CELL_ROWS rows is split by k-means again, up to SPLITS times,
and rows are compared inside the parts. A part that is still too large (a million copies of one
image) is compared with its CELL_ROWS best rows only.
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
from emt_core.selection.limits import members_of

ROUNDS = 25
BLOCK_ROWS = 1024
READ_ROWS = 4096
CELL_ROWS = 32_768
"""Rows of a cell that are compared pair by pair; enters the key of such a selection."""

PARTS, SPLITS = 64, 4
"""Parts of a split at the most, and splits inside one another: 64^4 parts of 32,768 rows are 10^11,
so only what k-means cannot take apart is left."""

Advance = Callable[[int], object]
"""Called with how many rounds or rows are done; 0: still at it."""


@dataclass(frozen=True, kw_only=True)
class SplitCell:
    """A cell that was too large to compare whole."""

    cell: int
    rows: int
    parts: int
    best_only: int
    """Rows compared with the CELL_ROWS best of their part instead of all better ones."""


def fit_cells(
    features: Features,
    rows: np.ndarray,
    config: Clusters,
    *,
    seed: int,
    advance: Advance = lambda _: None,
) -> np.ndarray:
    """float32 [cells, dim] of length 1: cell centers, fitted on a seeded sample of `rows`.

    With fewer rows than cells, each row is a cell.
    """
    drawn = np.sort(ordered_rows(random_keys(seed, rows, Purpose.CELLS), config.fit_rows))
    x = unit_features(features, drawn)
    centers = x[np.random.default_rng([seed, 11]).permutation(len(x))[: config.cells]]
    for _ in range(ROUNDS):
        nearest, cosine = _nearest(x, centers)
        groups = members_of(nearest, range(len(centers)))
        sums = np.stack([x[members].sum(axis=0, dtype=np.float64) for members in groups])
        empty = np.array([not len(members) for members in groups])
        worst = np.argsort(cosine, kind="stable")
        sums[empty] = x[worst[: empty.sum()]]  # the worst served rows open new cells
        moved = l2_normalize(sums)
        advance(1)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers


def unit_features(features: Features, rows: np.ndarray) -> np.ndarray:
    """float32 [n, dim] of length 1, in the order of `rows`.

    They are read a few thousand at a time, in the store's order.
    """
    x = np.empty((len(rows), features.dim), np.float32)
    rising = np.argsort(rows, kind="stable")
    for at in range(0, len(rows), READ_ROWS):
        some = rising[at : at + READ_ROWS]
        x[some] = l2_normalize(take_finite(features, rows[some]))
    return x


def _nearest(x: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [n] cell, float32 [n] cosine) of length-1 rows; the first of equally near cells."""
    import torch

    transposed = torch.from_numpy(centers).T
    with one_thread():
        best = [(part @ transposed).max(dim=1) for part in torch.from_numpy(x).split(BLOCK_ROWS)]
    cell = torch.cat([block.indices for block in best]).numpy()
    return cell, torch.cat([block.values for block in best]).numpy()


def assign_cells(
    features: Features, centers: np.ndarray, *, advance: Advance = lambda _: None
) -> np.ndarray:
    """int32 [rows]: each row's nearest cell, -1 without a vector, in one pass.

    The same bits however the store is cut.
    """
    import torch

    transposed = torch.from_numpy(np.ascontiguousarray(centers.T))

    def nearest(x: np.ndarray) -> np.ndarray:
        cell = (torch.from_numpy(l2_normalize(x)) @ transposed).argmax(dim=1)
        return cell.float().numpy()  # exact below 2^24

    cells = np.full(features.rows, -1, np.int32)
    for at, part in score_blocks(features, BLOCK_ROWS, nearest):
        ok = ~np.isnan(part)
        cells[at : at + len(part)][ok] = part[ok]
        advance(len(part))
    return cells


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
    """(bool [rows of the index]: near-duplicates, the cells that were split first).

    A near-duplicate has at least this cosine to a better row of its cell. order: index rows, best
    first; others are not looked at. cell: int32 [rows of the index].

    Arrays in memory: cell_rows x (dim + 1024) float32; at 32,768 x 1024 the process grew by 0.5 GB
    and used 10 CPU seconds. Products: at most cell_rows a row.
    """
    duplicate = np.zeros(len(cell), bool)
    split = []
    cells = cell[order]
    advance(int((cells < 0).sum()))
    for number, members in enumerate(members_of(cells, range(cells.max(initial=-1) + 1))):
        rows = order[members]
        parts = _parts(features, rows, cell_rows, SPLITS, seed, advance)
        for part in parts:
            if len(part) > 1:
                duplicate[part] = _near_a_better(features, part, cosine, cell_rows)
            advance(len(part))
        if len(rows) > cell_rows:
            best_only = sum(max(len(part) - cell_rows, 0) for part in parts)
            split.append(
                SplitCell(cell=number, rows=len(rows), parts=len(parts), best_only=best_only)
            )
    return duplicate, split


def _parts(
    features: Features, rows: np.ndarray, cell_rows: int, splits: int, seed: int, advance: Advance
) -> list[np.ndarray]:
    """The rows of a cell in parts of at most cell_rows, their order kept.

    Larger where no split is left.
    """
    if len(rows) <= cell_rows or splits == 0:
        return [rows]
    wanted = Clusters(cells=min(PARTS, max(2, 2 * len(rows) // cell_rows)))
    centers = fit_cells(features, rows, wanted, seed=seed, advance=lambda _: advance(0))
    part = np.empty(len(rows), np.int8)
    rising = np.argsort(rows, kind="stable")
    for at in range(0, len(rows), READ_ROWS):
        some = rising[at : at + READ_ROWS]
        part[some] = _nearest(unit_features(features, rows[some]), centers)[0]
        advance(0)
    return [
        smaller
        for members in members_of(part, range(len(centers)))
        for smaller in _parts(features, rows[members], cell_rows, splits - 1, seed, advance)
        if len(members)
    ]


def _near_a_better(
    features: Features, rows: np.ndarray, cosine: float, cell_rows: int
) -> np.ndarray:
    """bool [n]: rows (best first) with at least this cosine to a better one.

    To one of the cell_rows best where there are more rows than that.
    """
    import torch

    best = torch.from_numpy(unit_features(features, rows[:cell_rows]))
    near = []
    with one_thread():
        for at in range(0, len(best), BLOCK_ROWS):
            part = best[at : at + BLOCK_ROWS]
            cosines = (part @ best[: at + len(part)].T).tril_(diagonal=at - 1)
            near.append(cosines.amax(dim=1) >= cosine)
        for at in range(len(best), len(rows), BLOCK_ROWS):
            part = torch.from_numpy(unit_features(features, rows[at : at + BLOCK_ROWS]))
            near.append((part @ best.T).amax(dim=1) >= cosine)
    return torch.cat(near).numpy()
