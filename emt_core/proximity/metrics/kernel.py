"""Means of a Gaussian kernel between groups of features: the costly step of MMD and diversity.

Every quantity of a mixture follows from the matrix of group means without touching features again:
with K_ij = E[k(x, y)], x ~ P_i, y ~ P_j, the mixtures p and q of the groups have E[k] = p' K q.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from emt_core.errors import EmtError

if TYPE_CHECKING:
    import torch

TILE = (
    1024,
    2048,
)  # float32, 8 MB, one buffer for all: fresh pages for each tile cost more than the arithmetic


def kernel_means(groups: Sequence[np.ndarray], gamma: float) -> np.ndarray:
    """float64 [g, g], symmetric: means of exp(-gamma |x - y|^2) between all pairs of groups.

    groups: float [n_i, dim] each, n_i >= 1. V-statistic: pairs of a row with itself count. Memory:
    the groups as float32, and one tile.

    The common mean is taken off first. It changes no distance, and |x|^2 + |y|^2 - 2 x.y then loses
    nothing to cancellation in float32 (raw VLM states have a mean far longer than their deviation).
    """
    import torch

    if not groups or min(len(group) for group in groups) == 0:
        raise ValueError("every group needs at least one row")
    center = np.average(
        [np.mean(group, axis=0, dtype=np.float64) for group in groups],
        axis=0,
        weights=[len(group) for group in groups],
    )
    left, right = [], []
    for group in groups:
        rows = torch.from_numpy(np.asarray(group, np.float32) - center.astype(np.float32))
        a, b = _exponent_factors(rows, gamma)
        left.append(a)
        right.append(b)
    means = np.empty((len(groups), len(groups)))
    buffer = torch.empty(TILE[0] * TILE[1])
    for i, a in enumerate(left):
        for j in range(i, len(groups)):
            means[i, j] = means[j, i] = _kernel_sum(a, right[j], buffer) / (len(a) * len(right[j]))
    return means


def _exponent_factors(rows: torch.Tensor, gamma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A, B with A @ B.T = -gamma |x - y|^2.

    The norms ride along as two more columns, so that it is one matrix product.
    """
    import torch

    squared = rows.square().sum(dim=1, keepdim=True, dtype=torch.float64).float() * gamma
    one = torch.ones_like(squared)
    return torch.cat([rows * (2 * gamma), -squared, -one], dim=1), torch.cat(
        [rows, one, squared], dim=1
    )


def _kernel_sum(a: torch.Tensor, b: torch.Tensor, buffer: torch.Tensor) -> float:
    import torch

    total = 0.0
    for part in a.split(TILE[0]):
        for other in b.split(TILE[1]):
            tile = buffer[: len(part) * len(other)].view(len(part), len(other))
            torch.mm(part, other.T, out=tile)
            total += tile.clamp_(max=0).exp_().sum(dim=1).sum(dtype=torch.float64).item()
    return total


def without_self_pairs(means: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """U-statistic from V-statistic: takes pairs of a row with itself (each k = 1) off the diagonal.

    NaN for a group of one row, which has no pair left.
    """
    n = np.asarray(sizes, np.float64)
    out = np.array(means, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        np.fill_diagonal(out, (np.diag(means) * n * n - n) / (n * (n - 1)))
    return out


def median_distance(features: np.ndarray) -> float:
    """Median distance between different rows of float [n, dim] (median heuristic, Gretton 2012).

    Pairs at distance 0 (duplicates) are left out if the median were 0. Raises EmtError where all
    rows are equal.
    """
    import torch

    rows = torch.from_numpy(np.asarray(features, np.float32))
    rows = rows - rows.mean(dim=0)
    norms = rows.square().sum(dim=1)
    squared = norms[:, None] + norms[None, :] - 2 * (rows @ rows.T)
    upper = torch.triu_indices(len(rows), len(rows), offset=1)
    distances = squared[upper[0], upper[1]].clamp_(min=0).numpy()
    # rounding leaves duplicates a little above 0
    apart = distances[distances > 1e-6 * float(norms.max())] if len(distances) else distances
    if not len(apart):
        raise EmtError(
            "all features are equal, so they have no distances to measure",
            where="embed",
            remedy="check the encoder and what it was given (images, text settings)",
        )
    median = float(np.median(distances))
    if median <= 1e-6 * float(norms.max()):
        median = float(np.median(apart))
    return float(np.sqrt(median))
