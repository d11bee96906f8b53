"""Squared maximum mean discrepancy with a Gaussian kernel (method section 3).

    k(x, y) = exp(-|x - y|^2 / 2 sigma^2)          sigma: median distance of the pooled samples
    MMD^2(P, Q) = E[k(x, x')] - 2 E[k(x, y)] + E[k(y, y')]

Gretton et al. 2012, equations 3 and 5. Biased (V-statistic, the paper's): E over all pairs, >= 0,
and about (1/m + 1/n)(1 - E[k]) above the truth. Unbiased (U-statistic): x differs from x'; around 0
where P = Q, and may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emt_core.proximity.metrics.kernel import kernel_means, median_distance, without_self_pairs

# 2 M distances: the median's own error is far below what the choice of heuristic leaves open
SIGMA_ROWS = 2048


def median_sigma(groups: Sequence[np.ndarray], seed: int = 0) -> float:
    """Bandwidth by the median heuristic, over a seeded subsample with equally many rows a group."""
    rng = np.random.default_rng(seed)
    share = max(SIGMA_ROWS // len(groups), 2)
    parts = [group[rng.permutation(len(group))[:share]] for group in groups]
    return median_distance(np.concatenate(parts))


def mmd2(x: np.ndarray, y: np.ndarray, sigma: float, *, unbiased: bool = False) -> float:
    """Squared MMD between float [m, dim] and float [n, dim]."""
    return float(mmd2_matrix([x, y], sigma, unbiased=unbiased)[0, 1])


def mmd2_matrix(
    groups: Sequence[np.ndarray], sigma: float, *, unbiased: bool = False
) -> np.ndarray:
    """Squared MMD between all pairs of groups: float64 [g, g], zeros on the diagonal."""
    return pairwise(group_means(groups, sigma, unbiased=unbiased))


def pairwise(means: np.ndarray) -> np.ndarray:
    """Squared MMD between all pairs of groups, from their kernel means."""
    diagonal = np.diag(means)
    out = diagonal[:, None] + diagonal[None, :] - 2 * means
    np.fill_diagonal(out, 0.0)
    return out


def group_means(
    groups: Sequence[np.ndarray], sigma: float, *, unbiased: bool = False
) -> np.ndarray:
    """Kernel means that `mixture_mmd2` takes: float64 [g, g]."""
    means = kernel_means(groups, 1 / (2 * sigma**2))
    return without_self_pairs(means, [len(group) for group in groups]) if unbiased else means


def mixture_mmd2(means: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    """Squared MMD between two mixtures of the groups. p, q: weights [g], each summing to 1.

    It is |sum_i (p_i - q_i) mu_i|^2 in the kernel's space, so "all pool" and "all robot" need no
    sample of their own.
    """
    difference = np.asarray(p, np.float64) - np.asarray(q, np.float64)
    used = difference != 0
    return float(difference[used] @ means[np.ix_(used, used)] @ difference[used])


def normalize(matrix: np.ndarray) -> np.ndarray:
    """Divide by the largest entry of the whole matrix, so that colors compare across all pairs.

    Unbiased values below 0 become 0.
    """
    clipped = np.clip(matrix, 0, None)
    top = np.nanmax(clipped) if clipped.size else 0.0
    return clipped / top if top > 0 else clipped
