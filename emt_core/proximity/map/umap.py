"""UMAP (McInnes et al. 2018) by umap-learn, with exact neighbors of our own.

umap-learn would search them with pynndescent, whose compilation alone took about 20 s of CPU on a
fresh machine.
"""

from __future__ import annotations

import warnings

import numpy as np

from emt_core.proximity.map.nearest import Nearest
from emt_core.proximity.stream import one_thread


def fit(x: np.ndarray, *, neighbors: int, min_dist: float, seed: int) -> np.ndarray:
    """float32 [n, dim] -> float32 [n, 2]; the same for the same seed.

    On one thread, as umap-learn demands for a seed. Numba, which it runs on, would leave torch with
    a thread for every core: later stages of the same process would round otherwise.
    """
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap-learn warns that a seed means one thread
        import umap

        k = min(neighbors, len(x) - 1)
        distance, index = Nearest(x).query(x, k, own=np.arange(len(x)))
        model = umap.UMAP(
            n_neighbors=k,
            min_dist=min_dist,
            random_state=seed,
            n_jobs=1,
            precomputed_knn=(index.astype(np.int32), distance.astype(np.float32)),
        )
        return np.asarray(model.fit_transform(x), np.float32)
