"""How well a score ranks positives above negatives: AUROC, average precision and their curves, with row weights.

Weights matter: the estimator is trained on balanced classes (method section 4), held-out rows are not balanced.
`balanced_weights` gives each class half of the mass, so that precision means the same for any size of the pool.
Scores enter only through their order; ties count half (AUROC) or are taken together (precision, as scikit-learn does).
"""

from __future__ import annotations

import numpy as np


def balanced_weights(labels: np.ndarray, strata: np.ndarray | None = None) -> np.ndarray:
    """float64 [n]: each class sums to 1/2, and each stratum of the positives has an equal part of it (robot sets)."""
    labels = np.asarray(labels, bool)
    weights = np.where(labels, 0.0, 0.5 / max((~labels).sum(), 1))
    groups = np.zeros(len(labels), np.int64) if strata is None else np.asarray(strata)
    names = np.unique(groups[labels])
    for name in names:
        members = labels & (groups == name)
        weights[members] = 0.5 / len(names) / members.sum()
    return weights


def _cumulated(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True-positive and false-positive mass at each distinct score, falling; the scores themselves."""
    labels, scores = np.asarray(labels, bool), np.asarray(scores, np.float64)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    if not len(labels) or labels.all() or not labels.any():
        raise ValueError("a ranking needs rows of both classes")
    if not np.isfinite(scores).all():
        raise ValueError("scores have to be finite")
    order = np.argsort(-scores, kind="stable")
    scores, labels, weights = scores[order], labels[order], weights[order]
    last = np.r_[
        np.flatnonzero(np.diff(scores)), len(scores) - 1
    ]  # the last row of each group of ties
    return np.cumsum(weights * labels)[last], np.cumsum(weights * ~labels)[last], scores[last]


def auroc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Probability that a positive scores above a negative, ties counting half. labels bool [n], scores [n]."""
    tp, fp, _ = _cumulated(labels, scores, weights)
    return float(np.trapezoid(np.r_[0, tp / tp[-1]], np.r_[0, fp / fp[-1]]))


def average_precision(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """sum_n (R_n - R_(n-1)) P_n over falling thresholds, without interpolation."""
    tp, fp, _ = _cumulated(labels, scores, weights)
    recall, precision = tp / tp[-1], tp / np.maximum(tp + fp, 1e-300)
    return float(np.sum(np.diff(np.r_[0, recall]) * precision))


def roc_curve(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None, *, points: int = 200
) -> dict[str, list[float]]:
    """`false_positive_rate`, `true_positive_rate`, `threshold`: at most `points` each, both ends included."""
    tp, fp, threshold = _cumulated(labels, scores, weights)
    kept = _spread((tp / tp[-1] + fp / fp[-1]) / 2, points - 1)
    return {
        "false_positive_rate": [0.0, *(fp / fp[-1])[kept].tolist()],
        "true_positive_rate": [0.0, *(tp / tp[-1])[kept].tolist()],
        "threshold": [float(threshold[0]), *threshold[kept].tolist()],
    }


def precision_recall_curve(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None, *, points: int = 200
) -> dict[str, list[float]]:
    """`recall`, `precision`, `threshold` at no more than `points` thresholds, recall rising."""
    tp, fp, threshold = _cumulated(labels, scores, weights)
    kept = _spread(tp / tp[-1], points)
    return {
        "recall": (tp / tp[-1])[kept].tolist(),
        "precision": (tp / np.maximum(tp + fp, 1e-300))[kept].tolist(),
        "threshold": threshold[kept].tolist(),
    }


def _spread(along: np.ndarray, points: int) -> np.ndarray:
    """At most `points` places of the rising array, evenly apart in its value, first and last included."""
    if len(along) <= points:
        return np.arange(len(along))
    places = np.searchsorted(along, np.linspace(along[0], along[-1], points))
    return np.unique(np.clip(np.r_[0, places, len(along) - 1], 0, len(along) - 1))[-points:]
