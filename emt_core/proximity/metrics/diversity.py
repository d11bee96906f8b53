"""Diversity of a set of features (method section 7), a number from 1 (all directions equal) up.

    S(D) = 1 / E_{u, v ~ D}[exp(-t |u - v|^2)],   u, v of length 1,   t = 2

It is the uniformity of Wang & Isola (2020) turned round. The paper does not say whether u = v
counts. We leave pairs of a row with itself out: then the value does not depend on how many rows
were sampled, and sets of different size compare.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emt_core.proximity.metrics.kernel import Estimate, GroupMeans, group_means

T = 2.0


def l2_normalize(features: np.ndarray) -> np.ndarray:
    """float32 [n, dim] of unit rows; a zero row stays zero."""
    rows = np.asarray(features, np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def similarity_means(
    groups: Sequence[np.ndarray], totals: Sequence[int] | None = None
) -> GroupMeans:
    """E[exp(-t |u - v|^2)] between all pairs of groups, whose rows are scaled to length 1 here.

    groups, totals: as in `group_means`.
    """
    return group_means([l2_normalize(group) for group in groups], T, totals)


def diversity(means: GroupMeans, weights: np.ndarray) -> Estimate:
    """S of a mixture of groups; NaN where one has a single row. weights: [g], summing to 1."""
    alike = means.weighted(np.outer(weights, weights))
    return Estimate(1 / alike.value, alike.error / alike.value**2)
