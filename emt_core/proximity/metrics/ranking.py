"""How well a score ranks positives above negatives: AUROC, average precision and their curves.

Rows have weights: the estimator trains on balanced classes (method section 4), held-out rows are
not balanced. `balanced_weights` gives each class half of the mass, so that precision means the
same for any size of the pool. Only the order of the scores counts.

scikit-learn sorts all rows in memory: some ten float64 a row.
"""

from __future__ import annotations

import numpy as np


def balanced_weights(labels: np.ndarray, strata: np.ndarray | None = None) -> np.ndarray:
    """float64 [n]: each class sums to 1/2, and strata (robot sets) share the positives' half."""
    labels = np.asarray(labels, bool)
    weights = np.where(labels, 0.0, 0.5 / max((~labels).sum(), 1))
    groups = np.zeros(len(labels), np.int64) if strata is None else np.asarray(strata)
    names = np.unique(groups[labels])
    for name in names:
        members = labels & (groups == name)
        weights[members] = 0.5 / len(names) / members.sum()
    return weights


def auroc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Probability that a positive scores above a negative, ties counting half.

    labels: bool [n]; scores: float [n], finite; weights: float [n].
    """
    from sklearn.metrics import roc_auc_score

    _check(labels, scores)
    return float(roc_auc_score(labels, scores, sample_weight=weights))


def average_precision(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """sum_n (R_n - R_(n-1)) P_n over falling thresholds, without interpolation."""
    from sklearn.metrics import average_precision_score

    _check(labels, scores)
    return float(average_precision_score(labels, scores, sample_weight=weights))


def roc_curve(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None, *, points: int = 200
) -> dict[str, list[float]]:
    """`false_positive_rate`, `true_positive_rate`, `threshold`: `points` at most, both ends in."""
    from sklearn import metrics

    _check(labels, scores)
    false_rate, true_rate, threshold = metrics.roc_curve(
        labels, scores, sample_weight=weights, drop_intermediate=False
    )
    threshold[0] = threshold[1]  # scikit-learn starts at infinity, which JSON cannot say
    kept = np.r_[0, 1 + _evenly_apart((true_rate + false_rate)[1:], points - 1)]
    return {
        "false_positive_rate": false_rate[kept].tolist(),
        "true_positive_rate": true_rate[kept].tolist(),
        "threshold": threshold[kept].tolist(),
    }


def precision_recall_curve(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None, *, points: int = 200
) -> dict[str, list[float]]:
    """`recall`, `precision`, `threshold` at no more than `points` thresholds, recall rising."""
    from sklearn import metrics

    _check(labels, scores)
    precision, recall, threshold = metrics.precision_recall_curve(
        labels, scores, sample_weight=weights
    )
    # scikit-learn's recall falls, and ends in a recall of 0 that belongs to no threshold
    precision = precision[-2::-1]
    recall = recall[-2::-1]
    threshold = threshold[::-1]
    kept = _evenly_apart(recall, points)
    return {
        "recall": recall[kept].tolist(),
        "precision": precision[kept].tolist(),
        "threshold": threshold[kept].tolist(),
    }


def _check(labels: np.ndarray, scores: np.ndarray) -> None:
    """Raises ValueError where there is nothing to rank (scikit-learn would warn and return NaN)."""
    if not np.any(labels) or np.all(labels):
        raise ValueError("a ranking needs rows of both classes")
    if not np.isfinite(scores).all():
        raise ValueError("scores have to be finite")


def _evenly_apart(along: np.ndarray, points: int) -> np.ndarray:
    """At most `points` places of a rising array, evenly apart in its value, with both ends."""
    if len(along) <= points:
        return np.arange(len(along))
    places = np.searchsorted(along, np.linspace(along[0], along[-1], points))
    return np.unique(np.clip(np.r_[0, places, len(along) - 1], 0, len(along) - 1))[-points:]
