"""Do the probabilities mean what they say? Reliability bins, expected calibration error, Brier score; rows weighted."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """float64, without overflow at either end."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64)))


@dataclass(frozen=True)
class Reliability:
    """Equal-width bins of [0, 1] that hold any row; arrays [bins held]."""

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
    """labels bool [n], probabilities in [0, 1]; 15 bins as in Guo et al. 2017. 1.0 falls into the last bin."""
    labels, p = np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
    weights = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64)
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    mass = np.bincount(place, weights, bins)
    held = mass > 0
    edges = np.linspace(0, 1, bins + 1)
    return Reliability(
        lower=edges[:-1][held].tolist(),
        upper=edges[1:][held].tolist(),
        predicted=(np.bincount(place, weights * p, bins)[held] / mass[held]).tolist(),
        observed=(np.bincount(place, weights * labels, bins)[held] / mass[held]).tolist(),
        weight=(mass[held] / mass.sum()).tolist(),
    )


def brier(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Weighted mean of (p - y)^2: 0 perfect, 0.25 for a constant 1/2."""
    error = np.square(np.asarray(probabilities, np.float64) - np.asarray(labels, np.float64))
    return float(np.average(error, weights=weights))
