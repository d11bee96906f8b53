"""t-SNE (van der Maaten & Hinton 2008), the paper's projection, by scikit-learn (Barnes-Hut)."""

from __future__ import annotations

import numpy as np

PERPLEXITY = 30.0


def fit(x: np.ndarray, *, neighbors: int, seed: int) -> np.ndarray:
    """float32 [n, dim] -> float32 [n, 2].

    Perplexity: 30, at most 3 x neighbors, at most (n - 1) / 3. On one thread: sums in a fixed order
    give the same map for the same seed, and Barnes-Hut's many short parallel loops crawl (minutes
    for 240 rows) where other processes hold the cores.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, 3.0 * neighbors, (len(x) - 1) / 3)
    model = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    with threadpool_limits(1):
        return np.asarray(model.fit_transform(x), np.float32)
