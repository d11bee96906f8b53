"""How alike two rankings are: Spearman's correlation (ties share their mean rank) and the overlap of the best K."""

from __future__ import annotations

import numpy as np


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """float64 [n]: rank of each value from 0, equal values share the mean of their places."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[inverse]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of the mean ranks; NaN where one of them is constant or there are fewer than 2 rows."""
    x, y = mean_ranks(np.asarray(a)), mean_ranks(np.asarray(b))
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if len(x) > 1 and scale > 0 else float("nan")


def best(values: np.ndarray, k: int) -> np.ndarray:
    """int64: the places of the k highest values, ties by place."""
    return np.lexsort((np.arange(len(values)), -np.asarray(values, np.float64)))[:k]


def share_of(top_share: float, rows: int) -> int:
    """How many of `rows` are their best share: rounded, at least one."""
    return max(1, round(top_share * rows))


def overlap_at(a: np.ndarray, b: np.ndarray, k: int) -> float:
    """Share of the k best of `a` that are among the k best of `b`; k / n is what chance gives."""
    return len(np.intersect1d(best(a, k), best(b, k))) / max(k, 1)


def compared(a: np.ndarray, b: np.ndarray, top_share: float) -> dict[str, float]:
    """`spearman` of two scores of the same rows, and the `overlap` of their best share."""
    return {"spearman": spearman(a, b), "overlap": overlap_at(a, b, share_of(top_share, len(a)))}
