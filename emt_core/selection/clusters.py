"""Cells of the feature space and near-duplicates inside them (SemDeDup, Abbas et al. 2023), streaming.

Everything is measured by the cosine: features are scaled to length 1, cells are spherical k-means (Dhillon and Modha
2001). As in SemDeDup a row is compared with *all* better rows of its cell, those left out included, so the outcome does
not depend on the order of the comparisons; unlike there, "better" is the selection's own rank.
"""

from __future__ import annotations

import numpy as np

from emt_core.finite import take_finite
from emt_core.metrics.diversity import l2_normalise
from emt_core.proximity.blocks import score_blocks
from emt_core.scoring import one_thread
from emt_core.selection.order import Purpose, ordered_rows, random_keys
from emt_core.stage_config import Clusters
from emt_core.store import Features

ROUNDS = 25
BLOCK_ROWS = 1024


def fit_cells(features: Features, rows: np.ndarray, config: Clusters, *, seed: int) -> np.ndarray:
    """float32 [cells, dim] of length 1, fitted on a seeded sample of `rows`. Fewer rows than cells: a cell a row."""
    drawn = np.sort(ordered_rows(random_keys(seed, rows, Purpose.CELLS), config.fit_rows))
    x = l2_normalise(take_finite(features, drawn))
    centres = x[np.random.default_rng([seed, 11]).permutation(len(x))[: config.cells]]
    for _ in range(ROUNDS):
        nearest, similarity = _nearest(x, centres)
        sums = np.zeros((len(centres), x.shape[1]))
        np.add.at(sums, nearest, x)
        empty = np.flatnonzero(np.bincount(nearest, minlength=len(centres)) == 0)
        sums[empty] = x[np.argsort(similarity, kind="stable")[: len(empty)]]  # the worst served rows open new cells
        moved = l2_normalise(sums)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _nearest(x: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [n] cell, float32 [n] cosine) of length-1 rows; the first of equally near cells."""
    import torch

    with one_thread():
        best = [
            (torch.from_numpy(x[at : at + BLOCK_ROWS]) @ torch.from_numpy(centres).T).max(dim=1)
            for at in range(0, len(x), BLOCK_ROWS)
        ]
    return np.concatenate([b.indices.numpy() for b in best]), np.concatenate([b.values.numpy() for b in best])


def assign_cells(features: Features, centres: np.ndarray) -> np.ndarray:
    """int32 [rows]: each row's nearest cell, -1 without a vector. One pass; bits as in any other cut of the store."""
    import torch

    transposed = torch.from_numpy(np.ascontiguousarray(centres.T))

    def nearest(x: np.ndarray) -> np.ndarray:
        return (torch.from_numpy(l2_normalise(x)) @ transposed).argmax(dim=1).float().numpy()  # below 2^24: exact

    parts = [part for _, part in score_blocks(features, BLOCK_ROWS, nearest)]
    found = np.concatenate(parts) if parts else np.empty(0, np.float32)
    return np.where(np.isnan(found), -1, found).astype(np.int32)


def near_duplicates(features: Features, order: np.ndarray, cell: np.ndarray, *, cosine: float) -> np.ndarray:
    """bool [rows]: rows of `order` (best first) with at least this cosine to a better row of the same cell.

    cell: int32 [rows]. Reads a cell's features at a time; products: the sum of squared cell sizes.
    """
    import torch

    found = np.zeros(len(cell), bool)
    grouped = np.argsort(cell[order], kind="stable")  # ranks rise inside a cell
    bounds = np.flatnonzero(np.diff(cell[order][grouped])) + 1
    with one_thread():
        for places in np.split(grouped, bounds):
            rows = order[places]
            if len(rows) < 2 or cell[rows[0]] < 0:
                continue
            x = torch.from_numpy(l2_normalise(take_finite(features, rows)))
            for at in range(0, len(rows), BLOCK_ROWS):
                part = x[at : at + BLOCK_ROWS]
                similar = part @ x[: at + len(part)].T
                found[rows[at : at + len(part)]] = (similar.tril(diagonal=at - 1).amax(dim=1) >= cosine).numpy()
    return found
