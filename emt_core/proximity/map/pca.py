"""Principal components before the map (Maaten & Hinton 2008 do the same for t-SNE).

At 50 dimensions UMAP's trustworthiness stayed the same, and fitting and placing cost less
(speed/results/projection.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DIMENSIONS = 50


@dataclass(frozen=True)
class Pca:
    """mean float32 [dim], components float32 [dim, k], explained: share of the variance kept."""

    mean: np.ndarray
    components: np.ndarray
    explained: float

    @classmethod
    def fit(cls, x: np.ndarray, dimensions: int = DIMENSIONS) -> Pca:
        """x: float [n, dim].

        Signs are fixed (the largest entry is positive), so that a map does not flip between runs.
        """
        rows = np.asarray(x, np.float64)
        mean = rows.mean(axis=0)
        values, vectors = np.linalg.eigh((rows - mean).T @ (rows - mean) / max(len(rows) - 1, 1))
        kept = vectors[:, ::-1][:, : min(dimensions, x.shape[1])]
        largest = np.abs(kept).argmax(axis=0)
        kept = kept * np.sign(kept[largest, np.arange(kept.shape[1])])
        total = float(values.sum())
        explained = float(values[::-1][: kept.shape[1]].sum()) / total if total > 0 else 1.0
        return cls(mean.astype(np.float32), kept.astype(np.float32), explained)

    def apply(self, x: np.ndarray) -> np.ndarray:
        """float [n, dim] -> float32 [n, k]."""
        return (np.asarray(x, np.float32) - self.mean) @ self.components
