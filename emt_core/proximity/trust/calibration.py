"""Calibration and saturation: are probabilities true, and are scores still graded at the ends?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from emt_core.proximity.metrics.calibration import sigmoid
from emt_core.proximity.trust.number import numbered

NEAR_END = 1e-3


def effective_share(logit: np.ndarray) -> float:
    """Effective sample size over n: (sum w)^2 / (n sum w^2), w = exp(logit) (Kong 1992).

    1: all rows weigh the same; 1/n: one row has all the weight. The prior odds cancel.
    """
    log_w = np.asarray(logit, np.float64)
    w = np.exp(log_w - log_w.max())
    return float(w.sum() ** 2 / (len(w) * (w @ w)))


def calibration(
    pool_logit: np.ndarray,
    curves: Mapping[str, Any] | None,
    metrics: Mapping[str, Any],
    *,
    is_logit: bool,
) -> dict[str, Any]:
    """JSON. pool_logit: finite scores of the pool; curves, metrics: what the training left."""
    section: dict[str, Any] = {
        "title": "Calibration and saturation",
        "question": "Do the probabilities mean what they say, and are the scores still graded?",
        "numbers": [],
    }
    if not is_logit:
        return section | {
            "skipped": "This measure is no classifier: its score is no probability, only its order "
            "counts."
        }
    probability = sigmoid(pool_logit)
    saturated = float(((probability < NEAR_END) | (probability > 1 - NEAR_END)).mean())
    section["reliability"] = (curves or {}).get("calibration")
    section["numbers"] = [
        numbered("calibration_error", metrics.get("calibration_error")),
        numbered("saturated", saturated),
        numbered("effective_share", effective_share(pool_logit)),
    ]
    return section
