"""Scores of probes, with intervals by episode.

A score is 1 - (errors added up) / (base added up): R^2 where the errors are squared and the base is
the squared distance from the mean, accuracy where the errors are wrong frames and the base is all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DRAWS = 2_000
"""Of a bootstrap: its percentiles move by about 0.1 of the interval's width."""


@dataclass(frozen=True, kw_only=True)
class Score:
    score: float
    low: float
    high: float
    """95 % interval: percentiles of a bootstrap over episodes. NaN with a single episode."""
    episodes: int


def score_of(error: np.ndarray, base: np.ndarray) -> Score:
    """error, base: float [episodes], each added up over an episode's frames."""
    counts = _draws(len(error))
    drawn = 1 - (counts @ error) / np.maximum(counts @ base, 1e-12)
    return _summary(1 - error.sum() / max(base.sum(), 1e-12), drawn, len(error))


def difference_of(error: np.ndarray, other: np.ndarray, base: np.ndarray) -> Score:
    """Score of `error` minus that of `other`, on the same episodes: one draw takes both."""
    counts = _draws(len(error))
    drawn = (counts @ (other - error)) / np.maximum(counts @ base, 1e-12)
    return _summary((other - error).sum() / max(base.sum(), 1e-12), drawn, len(error))


def _draws(episodes: int) -> np.ndarray:
    """int64 [DRAWS, episodes]: how often each draw takes each episode. The same for all models."""
    even = np.full(episodes, 1 / episodes)
    return np.random.default_rng(0).multinomial(episodes, even, size=DRAWS)


def _summary(score: float, drawn: np.ndarray, episodes: int) -> Score:
    low, high = np.quantile(drawn, (0.025, 0.975)) if episodes > 1 else (np.nan, np.nan)
    return Score(score=float(score), low=float(low), high=float(high), episodes=episodes)
