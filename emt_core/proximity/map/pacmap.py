"""PaCMAP (Wang et al. 2021)."""

from __future__ import annotations

import logging
import warnings
from contextlib import redirect_stdout
from io import StringIO

import numpy as np


def fit(x: np.ndarray, *, neighbors: int, seed: int) -> np.ndarray:
    """float32 [n, dim] -> float32 [n, 2]; the same for the same seed."""
    logging.getLogger("pacmap").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        import pacmap

        model = pacmap.PaCMAP(
            n_neighbors=min(neighbors, len(x) - 1), random_state=seed, apply_pca=False
        )
        return np.asarray(
            model.fit_transform(np.ascontiguousarray(x, np.float32), init="pca"), np.float32
        )
