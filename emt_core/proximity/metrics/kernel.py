"""Means of a Gaussian kernel between groups of features: the costly step of MMD and diversity.

Every quantity of a mixture follows from the matrix of group means without touching features again:
with K_ij = E[k(x, y)], x ~ P_i, y ~ P_j, the mixtures p and q of the groups have E[k] = p' K q.
Pairs of a row with itself are left out (U-statistics, unbiased): then no value depends on how many
rows were sampled, and sets of different size compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emt_core.errors import EmtError

if TYPE_CHECKING:
    import torch

TILE = (
    1024,
    2048,
)  # float32, 8 MB, one buffer for all: fresh pages for each tile cost more than the arithmetic


@dataclass(frozen=True)
class Estimate:
    """A figure measured on a sample of the rows that it speaks of."""

    value: float
    error: float
    """Standard error, from the sample; 0 where all rows were measured."""


@dataclass(frozen=True)
class GroupMeans:
    """Mean kernels between groups, each a sample of a set."""

    rows: tuple[np.ndarray, ...]
    """float64 [n_i, g] for each group: mean kernel of a row with the rows of each group, itself
    left out; NaN in a group of one row."""

    totals: tuple[int, ...]
    """Rows of the sets that the groups were sampled from."""

    @property
    def means(self) -> np.ndarray:
        """float64 [g, g], symmetric."""
        return np.stack([rows.mean(axis=0) for rows in self.rows])

    def weighted(self, weights: np.ndarray) -> Estimate:
        """Sum of weights x means. weights: float [g, g], symmetric; groups of weight 0 drop out.

        The error comes from how far a group's rows differ in what they add (Hoeffding 1948), and is
        less where a large part of a set was sampled (Cochran 1977, section 2.6). It is up to
        sqrt(2) too large where they do not differ, as for two samples of one distribution.
        """
        used = np.flatnonzero(weights.any(axis=1))
        value = variance = 0.0
        for group in used:
            added = self.rows[group][:, used] @ weights[group, used]
            value += added.mean()
            count = len(added)
            if count > 1:
                left = 1 - count / self.totals[group]
                variance += left * 4 * added.var(ddof=1) / count
        return Estimate(float(value), float(np.sqrt(variance)))


def group_means(
    groups: Sequence[np.ndarray], gamma: float, totals: Sequence[int] | None = None
) -> GroupMeans:
    """Means of exp(-gamma |x - y|^2) between all pairs of groups.

    groups: float [n_i, dim] each, n_i >= 1. totals: rows of the sets that they are samples of; None
    where they are whole sets. Memory: the groups as float32, and one tile.

    The common mean is taken off first. It changes no distance, and |x|^2 + |y|^2 - 2 x.y then loses
    nothing to cancellation in float32 (raw VLM states have a mean far longer than their deviation).
    """
    import torch

    if not groups or min(len(group) for group in groups) == 0:
        raise ValueError("every group needs at least one row")
    sizes = np.array([len(group) for group in groups])
    center = np.average(
        [np.mean(group, axis=0, dtype=np.float64) for group in groups], axis=0, weights=sizes
    )
    left, right = [], []
    for group in groups:
        rows = torch.from_numpy(np.asarray(group, np.float32) - center.astype(np.float32))
        a, b = _exponent_factors(rows, gamma)
        left.append(a)
        right.append(b)
    sums = [np.zeros((size, len(groups))) for size in sizes]
    buffer = torch.empty(TILE[0] * TILE[1])
    for i, a in enumerate(left):
        for j in range(i, len(groups)):
            mirrored = None if i == j else sums[j][:, i]
            _add_kernel(a, right[j], buffer, sums[i][:, j], mirrored)
    for place, of_group in enumerate(sums):
        others = sizes - (np.arange(len(sizes)) == place)
        of_group[:, place] -= 1  # k(x, x) = 1
        with np.errstate(invalid="ignore"):
            of_group /= others
        if sizes[place] == 1:
            of_group[:, place] = np.nan
    return GroupMeans(tuple(sums), tuple(totals or sizes.tolist()))


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


def _add_kernel(
    a: torch.Tensor,
    b: torch.Tensor,
    buffer: torch.Tensor,
    of_rows: np.ndarray,
    of_columns: np.ndarray | None,
) -> None:
    """Add the sums of the kernel matrix's rows, and of its columns where they are asked for."""
    import torch

    at = 0
    for part in a.split(TILE[0]):
        to = 0
        for other in b.split(TILE[1]):
            tile = buffer[: len(part) * len(other)].view(len(part), len(other))
            torch.mm(part, other.T, out=tile)
            tile.clamp_(max=0).exp_()
            of_rows[at : at + len(part)] += tile.sum(dim=1).numpy()
            if of_columns is not None:
                of_columns[to : to + len(other)] += tile.sum(dim=0).numpy()
            to += len(other)
        at += len(part)


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
