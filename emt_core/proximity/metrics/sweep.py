"""Diversity and distance to the robots for every possible cut, from one sorted pool subsample.

With rows in falling order of score, "cut after n rows" is a prefix, and the kernel mean over a
prefix is a prefix sum over all pairs of its rows but i = j:

    D_n = sum_{i <= n} C_in / (n (n - 1)),   C_in = sum_{j <= n, j != i} k(x_i, x_j)

So one kernel matrix answers for all n cuts. These are the estimators of metrics/kernel.py, with the
same standard errors, prefix by prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from emt_core.proximity.metrics.diversity import T, l2_normalize
from emt_core.proximity.metrics.kernel import GroupMeans

if TYPE_CHECKING:
    import torch

KERNEL_ROWS = 512


def diversity_sweep(rows: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [n], its standard errors): S(D) (method section 7) of the first i + 1 rows.

    rows: float [n, dim], a sample of `total` rows. NaN for the first entry (no pair).
    """
    alike, variance = _prefix_means(l2_normalize(rows), T, np.zeros(len(rows)))
    left = 1 - len(rows) / total
    return 1 / alike, np.sqrt(left * variance) / alike**2


def mmd2_sweep(
    rows: np.ndarray,
    total: int,
    robots: Sequence[np.ndarray],
    among_robots: GroupMeans,
    sigma: float,
) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [n], its standard errors): squared MMD between the first i + 1 rows and the robots.

    The robot sets have equal weight, because the estimator's positives are a balanced mixture of
    them (method section 4). among_robots: their own kernel means.
    """
    gamma = 1 / (2 * sigma**2)
    count = np.arange(1, len(rows) + 1)
    weight = 1 / len(robots)
    near = np.zeros(len(rows))
    of_robots = np.zeros(len(rows))
    for robot, own, size in zip(robots, among_robots.rows, among_robots.totals, strict=True):
        each, variance = _to_robot(rows, robot, own.mean(axis=1), gamma)
        near += weight * each
        of_robots += (1 - len(robot) / size) * weight**2 * variance
    among, variance = _prefix_means(rows, gamma, near)
    value = among - 2 * np.cumsum(near) / count + among_robots.means.mean()
    left = 1 - len(rows) / total
    return value, np.sqrt(left * variance + of_robots)


def _prefix_means(
    rows: np.ndarray, gamma: float, near: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(mean kernel over pairs of different rows among the first i + 1; variance of D - 2 E[near]).

    near: float64 [n], what each row has beside its pairs. Memory: KERNEL_ROWS x n float64.
    """
    import torch

    x = _centered(rows, rows)
    beside = torch.from_numpy(near)
    total = torch.zeros(len(rows), dtype=torch.float64)
    squares = torch.zeros_like(total)
    products = torch.zeros_like(total)
    for start in range(0, len(rows), KERNEL_ROWS):
        stop = min(start + KERNEL_ROWS, len(rows))
        kernel = _kernel(x[start:stop], x, gamma).double()
        kernel.diagonal(start).zero_()
        # column n: sums with the first n + 1 rows, of rows that are among these themselves
        sums = kernel.cumsum(dim=1).triu_(diagonal=start)
        total += sums.sum(dim=0)
        squares += sums.square().sum(dim=0)
        products += beside[start:stop] @ sums
    count = np.arange(1, len(rows) + 1, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        others = count - 1
        means = total.numpy() / (count * others)
        mean = means - np.cumsum(near) / count
        square = squares.numpy() / others**2 - 2 * products.numpy() / others + np.cumsum(near**2)
        variance = np.maximum(square / count - mean**2, 0) * count / others
        return means, 4 * variance / count


def _to_robot(
    rows: np.ndarray, robot: np.ndarray, own: np.ndarray, gamma: float
) -> tuple[np.ndarray, np.ndarray]:
    """(mean kernel of each row with the robot's rows; variance that the robot's sample adds).

    own: float64 [m], mean kernel of each robot row with the robot data.
    """
    import torch

    x = _centered(rows, robot)
    y = _centered(robot, robot)
    each = []
    variance = []
    before = torch.zeros(len(robot), dtype=torch.float64)
    for start in range(0, len(x), KERNEL_ROWS):
        kernel = _kernel(x[start : start + KERNEL_ROWS], y, gamma).double()
        each.append(kernel.mean(dim=1))
        sums = kernel.cumsum(dim=0) + before
        before = sums[-1]
        count = torch.arange(start + 1, start + len(kernel) + 1, dtype=torch.float64)
        added = torch.from_numpy(own) - sums / count[:, None]
        variance.append(4 * added.var(dim=1) / len(robot))
    return torch.cat(each).numpy(), torch.cat(variance).numpy()


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
