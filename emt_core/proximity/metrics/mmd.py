"""Squared maximum mean discrepancy with a Gaussian kernel (method section 3).

    k(x, y) = exp(-|x - y|^2 / 2 sigma^2)
    MMD^2(P, Q) = E[k(x, x')] - 2 E[k(x, y)] + E[k(y, y')]

Gretton et al. 2012, equation 3: the unbiased U-statistic, in which x differs from x'. It is around
0 where P = Q, and may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emt_core.proximity.metrics.kernel import Estimate, GroupMeans, group_means


def mmd_means(
    groups: Sequence[np.ndarray], sigma: float, totals: Sequence[int] | None = None
) -> GroupMeans:
    """Kernel means that `mmd2` takes. groups, totals: as in `group_means`."""
    return group_means(groups, 1 / (2 * sigma**2), totals)


def mmd2(means: GroupMeans, p: np.ndarray, q: np.ndarray) -> Estimate:
    """Squared MMD between two mixtures of the groups. p, q: weights [g], each summing to 1.

    It is |sum_i (p_i - q_i) mu_i|^2 in the kernel's space, so "all robot data" needs no sample of
    its own.
    """
    difference = np.asarray(p, np.float64) - np.asarray(q, np.float64)
    return means.weighted(np.outer(difference, difference))


def mean_mmd2(means: GroupMeans, pairs: Sequence[tuple[int, int]]) -> Estimate:
    """Mean squared MMD over pairs of groups."""
    weights = np.zeros((len(means.rows), len(means.rows)))
    for a, b in pairs:
        weights[[a, b], [a, b]] += 1
        weights[[a, b], [b, a]] -= 1
    return means.weighted(weights / len(pairs))


def normalize(matrix: np.ndarray) -> np.ndarray:
    """Divide by the largest entry of the whole matrix, so that colors compare across all pairs.

    Values below 0 become 0.
    """
    clipped = np.clip(matrix, 0, None)
    top = np.nanmax(clipped) if clipped.size else 0.0
    return clipped / top if top > 0 else clipped
