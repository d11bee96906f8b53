"""A fitted map: places any feature on it, and is kept as safetensors (never as a pickled model).

A row outside the fit lands on the median (each coordinate) of its PLACE_NEIGHBORS nearest fitted
rows. A mean would be pulled into empty space where one of them lies elsewhere on the map, and was
clearly less trustworthy (speed/results/projection.md). UMAP's own `transform` needs its model in
memory, so a killed run would have to fit again, and PaCMAP and t-SNE have nothing like it. One rule
serves all three, and a resumed map equals an uninterrupted one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from emt_core.proximity.map import pacmap, tsne, umap
from emt_core.proximity.map.nearest import Nearest
from emt_core.proximity.map.pca import Pca
from emt_core.recipe.gap import GapConfig

PLACE_NEIGHBORS = 3
FEW = 10  # too few points for any method: their first two principal components are the map


@dataclass(frozen=True)
class FittedMap:
    """A map fitted on some rows of the index.

    rows: int64 [n], rising; reduced: float32 [n, k], after PCA; xy: float32 [n, 2].
    """

    rows: np.ndarray
    pca: Pca
    reduced: np.ndarray
    xy: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray, x: np.ndarray, config: GapConfig) -> FittedMap:
        """x: float [n, dim], the features of `rows`."""
        pca = Pca.fit(x)
        reduced = pca.apply(x)
        return cls(rows, pca, reduced, _project(reduced, config))

    @cached_property
    def _nearest(self) -> Nearest:
        return Nearest(self.reduced)

    def place(self, x: np.ndarray) -> np.ndarray:
        """float [m, dim] raw features -> float32 [m, 2]."""
        k = min(PLACE_NEIGHBORS, len(self.rows))
        _, index = self._nearest.query(self.pca.apply(x), k)
        return np.median(self.xy[index], axis=1).astype(np.float32)

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        aside = path.with_suffix(".tmp")
        arrays = {
            "rows": self.rows,
            "pca_mean": self.pca.mean,
            "pca_components": np.ascontiguousarray(self.pca.components),
            "pca_explained": np.array([self.pca.explained]),
            "reduced": np.ascontiguousarray(self.reduced),
            "xy": np.ascontiguousarray(self.xy),
        }
        save_file(arrays, aside)
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> FittedMap:
        from safetensors.numpy import load_file

        a = load_file(path)
        pca = Pca(a["pca_mean"], a["pca_components"], float(a["pca_explained"][0]))
        return cls(a["rows"], pca, a["reduced"], a["xy"])

    def trustworthiness(self, *, most: int = 2000, seed: int = 0) -> float | None:
        """How many of 15 neighbors on the map are true neighbors (Venna & Kaski 2001), as a share.

        Of a seeded part of the fitted rows; None for too few rows.
        """
        from sklearn.manifold import trustworthiness

        picked = np.random.default_rng([seed, 5]).permutation(len(self.rows))[:most]
        if len(picked) <= 32:
            return None
        return float(trustworthiness(self.reduced[picked], self.xy[picked], n_neighbors=15))


def _project(reduced: np.ndarray, config: GapConfig) -> np.ndarray:
    if len(reduced) < FEW:
        xy = np.zeros((len(reduced), 2), np.float32)
        xy[:, : reduced.shape[1]] = reduced[:, :2]
        return xy
    if config.projection == "umap":
        return umap.fit(
            reduced, neighbors=config.neighbors, min_dist=config.min_dist, seed=config.seed
        )
    return {"pacmap": pacmap.fit, "tsne": tsne.fit}[config.projection](
        reduced, neighbors=config.neighbors, seed=config.seed
    )
