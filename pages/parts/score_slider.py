"""Ends, step and number format of a slider over scores, from their distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from emt_core.explore.numbers import LARGE
from emt_core.explore.tables.scores import MIDDLE, readable_ends

STEPS = 300
"""At least this many; steps are powers of ten, which makes it up to ten times as many."""


class Slider(NamedTuple):
    """The ends include everything further out: a few outliers would take up the whole slider."""

    low: float
    high: float
    step: float
    format: str


def score_slider(count: int, score_at: Callable[[np.ndarray], np.ndarray]) -> Slider:
    """A slider over `count` > 0 scores ranked best first.

    score_at: returns the scores at these ranks (int64 [4]); no others are read.
    """
    ranks = np.round((1 - np.array([0, *MIDDLE, 1])) * (count - 1)).astype(np.int64)
    low, high = readable_ends(*(float(score) for score in score_at(ranks)))
    width = max(high - low, 1e-6 * max(abs(low), 1))
    digits = -int(np.floor(np.log10(width / STEPS)))
    step = 10.0**-digits
    low = round(float(np.floor(low / step) * step), digits)
    high = max(round(float(np.ceil(high / step) * step), digits), low + step)
    shown = "%.2e" if max(abs(low), abs(high)) >= LARGE else f"%.{max(digits, 0)}f"
    return Slider(low, high, step, shown)
