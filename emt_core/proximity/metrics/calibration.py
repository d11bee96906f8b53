"""Do the probabilities mean what they say? Reliability bins, calibration error and Brier score.

The bins are our own: rows have weights, which scikit-learn's `calibration_curve` does not take.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """float64, without overflow at either end."""
    from scipy.special import expit

    return expit(np.asarray(logits, np.float64))


@dataclass(frozen=True)
class Reliability:
    """Equal-width bins of [0, 1] that hold any row; one entry a bin in every list."""

    lower: list[float]
    upper: list[float]
    predicted: list[float]
    """Mean probability in the bin."""
    observed: list[float]
    """Share of positives in the bin."""
    weight: list[float]
    """Share of all rows (by weight)."""

    @property
    def expected_error(self) -> float:
        """ECE: mean |observed - predicted| over rows (Guo et al. 2017)."""
        gap = np.abs(np.subtract(self.observed, self.predicted))
        return float(np.dot(self.weight, gap))

    def as_dict(self) -> dict[str, list[float]]:
        return asdict(self)


def reliability(
    labels: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    bins: int = 15,
) -> Reliability:
    """labels bool [n], probabilities in [0, 1]; 15 bins as in Guo et al. 2017, 1.0 in the last."""
    p = np.asarray(probabilities, np.float64)
    weights = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64)
    bin_of = np.minimum((p * bins).astype(np.int64), bins - 1)
    mass = np.bincount(bin_of, weights, bins)
    held = mass > 0
    edges = np.linspace(0, 1, bins + 1)

    def mean(values: np.ndarray) -> list[float]:
        return (np.bincount(bin_of, weights * values, bins)[held] / mass[held]).tolist()

    return Reliability(
        lower=edges[:-1][held].tolist(),
        upper=edges[1:][held].tolist(),
        predicted=mean(p),
        observed=mean(np.asarray(labels, np.float64)),
        weight=(mass[held] / mass.sum()).tolist(),
    )


def brier(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Weighted mean of (p - y)^2: 0 perfect, 0.25 for a constant 1/2."""
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(labels, probabilities, sample_weight=weights, pos_label=True))
