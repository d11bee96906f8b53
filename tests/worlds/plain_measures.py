"""Squared MMD and diversity by their formulas (method sections 3 and 7), all pairs at once."""

from __future__ import annotations

import numpy as np


def kernel(x: np.ndarray, y: np.ndarray, gamma: float) -> np.ndarray:
    """float64 [n, m]: exp(-gamma |x - y|^2)."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return np.exp(-gamma * np.stack([((row - y) ** 2).sum(axis=1) for row in x]))


def mean_of_pairs(x: np.ndarray, gamma: float) -> float:
    """Mean kernel over pairs of different rows."""
    return (kernel(x, x, gamma).sum() - len(x)) / (len(x) * (len(x) - 1))


def plain_mmd2(x: np.ndarray, sets: list[np.ndarray], sigma: float) -> float:
    """Unbiased squared MMD between x and the sets in equal parts."""
    gamma = 1 / (2 * sigma**2)
    among = np.mean(
        [
            [mean_of_pairs(a, gamma) if a is b else kernel(a, b, gamma).mean() for b in sets]
            for a in sets
        ]
    )
    across = np.mean([kernel(x, one, gamma).mean() for one in sets])
    return float(mean_of_pairs(x, gamma) - 2 * across + among)


def plain_diversity(x: np.ndarray) -> float:
    rows = np.asarray(x, np.float64)
    return 1 / mean_of_pairs(rows / np.linalg.norm(rows, axis=1, keepdims=True), 2.0)
