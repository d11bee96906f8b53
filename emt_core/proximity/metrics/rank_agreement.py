"""How alike two rankings are: Spearman's correlation and the overlap of the best K."""

from __future__ import annotations

import numpy as np


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """float64 [n]: rank of each value from 0; equal values share the mean of their ranks."""
    from scipy.stats import rankdata

    return rankdata(values) - 1


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation; NaN for a constant side or for fewer than 2 rows."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(mean_ranks(a), mean_ranks(b))[0, 1])


def best(values: np.ndarray, k: int) -> np.ndarray:
    """int64 [k]: the places of the k highest values, ties by place."""
    return np.argsort(-np.asarray(values, np.float64), kind="stable")[:k]


def share_of(top_share: float, rows: int) -> int:
    """How many of `rows` are their best share: rounded, at least one."""
    return max(1, round(top_share * rows))


def overlap_at(a: np.ndarray, b: np.ndarray, k: int) -> float:
    """Share of the k best of `a` that are among the k best of `b`; k / n is what chance gives."""
    return len(np.intersect1d(best(a, k), best(b, k))) / max(k, 1)


def compared(a: np.ndarray, b: np.ndarray, top_share: float) -> dict[str, float]:
    """`spearman` of two scores of the same rows, and the `overlap` of their best share."""
    return {"spearman": spearman(a, b), "overlap": overlap_at(a, b, share_of(top_share, len(a)))}
