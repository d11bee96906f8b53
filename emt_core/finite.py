"""Features for arithmetic: read by row, checked, wide enough to sum."""

from __future__ import annotations

from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.store import Features


def take_finite(features: Features, rows: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """dtype [n, dim], in the order of `rows`.

    Raises EmtError for a vector that is not finite: `embed` gives such a row a status, so a good row has none.
    """
    vectors = features.take(rows).astype(dtype)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise EmtError(
            "a feature that counts as good is not finite",
            where=f"{features.table.path}, row {int(np.asarray(rows)[~finite][0])}",
            remedy="remove this embed artifact and run `emt embed` again; if it stays, try precision: float32",
        )
    return vectors
