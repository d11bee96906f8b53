"""Diversity and distance to the robots for every possible cut, from one sorted pool subsample.

With rows in falling order of score, "cut after n rows" is a prefix, and the kernel mean over a
prefix is a prefix sum over all pairs of its rows but i = j:

    D_n = 2 * sum_{i < n} sum_{j < i} k(x_i, x_j) / (n (n - 1))

So one kernel matrix answers for all n cuts. Pairs of a row with itself are left out on all sides
(the unbiased estimators): otherwise short prefixes would look different from long ones for their
length alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from emt_core.proximity.metrics.diversity import l2_normalize
from emt_core.proximity.metrics.mmd import group_means

if TYPE_CHECKING:
    import torch

KERNEL_ROWS = 1024


def prefix_means(rows: np.ndarray, gamma: float) -> np.ndarray:
    """float64 [n]: entry i is the mean kernel over pairs of different rows among the first i + 1.

    The kernel is exp(-gamma |x - y|^2). rows: float [n, dim]. NaN for the first entry (no pair).
    Memory: KERNEL_ROWS x n float32.
    """
    import torch

    x = _centered(rows, rows)
    before = np.empty(len(rows))
    for start in range(0, len(rows), KERNEL_ROWS):
        stop = min(start + KERNEL_ROWS, len(rows))
        kernel = _kernel(x[start:stop], x[:stop], gamma).tril(diagonal=start - 1)
        before[start:stop] = kernel.sum(dim=1, dtype=torch.float64).numpy()
    count = np.arange(1, len(rows) + 1, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * np.cumsum(before) / (count * (count - 1))


def cross_means(rows: np.ndarray, others: np.ndarray, gamma: float) -> np.ndarray:
    """float64 [n]: mean of exp(-gamma |x - y|^2) over all y in `others` for each x in `rows`."""
    import torch

    x = _centered(rows, others)
    y = _centered(others, others)
    means = [
        _kernel(x[start : start + KERNEL_ROWS], y, gamma).mean(dim=1, dtype=torch.float64)
        for start in range(0, len(x), KERNEL_ROWS)
    ]
    return torch.cat(means).numpy() if means else np.empty(0)


def _kernel(x: torch.Tensor, y: torch.Tensor, gamma: float) -> torch.Tensor:
    """float32 [n, m]: exp(-gamma |x - y|^2) of all pairs."""
    norms = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    return (norms - 2 * (x @ y.T)).clamp_(min=0).mul_(-gamma).exp_()


def _centered(rows: np.ndarray, around: np.ndarray) -> torch.Tensor:
    """Rows less the mean of `around`.

    No distance changes, and |x|^2 + |y|^2 - 2 x.y then loses nothing to cancellation.
    """
    import torch

    mean = np.mean(around, axis=0, dtype=np.float64).astype(np.float32)
    return torch.from_numpy(np.asarray(rows, np.float32) - mean)


def diversity_sweep(rows: np.ndarray, *, t: float = 2.0) -> np.ndarray:
    """float64 [n]: S(D) (method section 7) of the first i + 1 rows."""
    return 1 / prefix_means(l2_normalize(rows), t)


def mmd2_sweep(rows: np.ndarray, robots: Sequence[np.ndarray], sigma: float) -> np.ndarray:
    """float64 [n]: unbiased squared MMD between the first i + 1 rows and the robot sets.

    The sets have equal weight, because the estimator's positives are a balanced mixture of them
    (method section 4).
    """
    gamma = 1 / (2 * sigma**2)
    among = group_means(robots, sigma, unbiased=True).mean()
    each = np.mean([cross_means(rows, robot, gamma) for robot in robots], axis=0)
    return prefix_means(rows, gamma) - 2 * np.cumsum(each) / np.arange(1, len(rows) + 1) + among
