"""Diversity of a set of features (method section 7), a number from 1 (all directions equal) up.

    S(D) = 1 / E_{u, v ~ D}[exp(-t |u - v|^2)],   u, v of length 1,   t = 2

It is the uniformity of Wang & Isola (2020) turned round. The paper does not say whether u = v
counts. We leave pairs of a row with itself out: then the value does not depend on how many rows
were sampled, and sets of different size compare.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emt_core.proximity.metrics.kernel import kernel_means, without_self_pairs


def l2_normalize(features: np.ndarray) -> np.ndarray:
    """float32 [n, dim] of unit rows; a zero row stays zero."""
    rows = np.asarray(features, np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def diversity(features: np.ndarray, *, t: float = 2.0) -> float:
    """S(D) of float [n, dim], scaled to length 1 here. NaN for fewer than two rows."""
    if len(features) < 2:
        return float("nan")
    return mixture_diversity(similarity_means([features], t=t), np.ones(1))


def similarity_means(groups: Sequence[np.ndarray], *, t: float = 2.0) -> np.ndarray:
    """E[exp(-t |u - v|^2)] between all pairs of groups: float64 [g, g].

    Pairs of a row with itself are left out; NaN for a group of one row.
    """
    means = kernel_means([l2_normalize(group) for group in groups], t)
    return without_self_pairs(means, [len(group) for group in groups])


def mixture_diversity(means: np.ndarray, weights: np.ndarray) -> float:
    """S of a mixture of groups. means: from `similarity_means`; weights [g] sum to 1."""
    used = np.asarray(weights) > 0
    w = np.asarray(weights, np.float64)[used]
    return float(1 / (w @ means[np.ix_(used, used)] @ w))
