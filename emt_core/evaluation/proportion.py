"""Shares of successes: an interval for one, tests of two on the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

Z_95 = NormalDist().inv_cdf(0.975)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927); (0, 1) for no trials. Never leaves [0, 1]."""
    if trials == 0:
        return 0.0, 1.0
    middle = (successes + Z_95**2 / 2) / (trials + Z_95**2)
    variance = successes * (trials - successes) / trials + Z_95**2 / 4
    half = Z_95 * variance**0.5 / (trials + Z_95**2)
    # where all are alike, one end is exact, whatever rounding makes of it
    low = middle - half if successes else 0.0
    return low, middle + half if successes < trials else 1.0


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two measurements of the same cases, a minus b."""

    cases: int
    difference: float
    low: float
    high: float
    """95 % interval of the mean difference: percentiles of a paired bootstrap over cases."""

    better: int
    """Cases where a did better."""

    worse: int
    p: float
    """Two-sided. Binary outcomes: exact McNemar test. Others: sign-flip permutation test."""

    test: str


def paired(a: Sequence[float], b: Sequence[float], *, seed: int = 0, draws: int = 10_000) -> Paired:
    """Compare outcomes case by case (float [n] each; 0 or 1, or a share of goals reached).

    The test asks whether a and b differ on such cases; it knows nothing of what another training
    run would do.
    """
    first = np.asarray(a, float)
    second = np.asarray(b, float)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError("two outcomes for each of at least one case are needed")
    away = first - second
    better = int((away > 0).sum())
    worse = int((away < 0).sum())
    binary = bool(np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all())
    rng = np.random.default_rng(seed)
    low, high = _bootstrap(away, rng, draws)
    return Paired(
        cases=len(away),
        difference=float(away.mean()),
        low=low,
        high=high,
        better=better,
        worse=worse,
        p=mcnemar(better, worse) if binary else _sign_flip(away, rng, draws),
        test="McNemar, exact" if binary else f"sign-flip permutation, {draws:,} draws",
    )


def mcnemar(better: int, worse: int) -> float:
    """Exact two-sided McNemar test: were `better` of the discordant pairs fair coin flips?

    1 where there are no discordant pairs.
    """
    from scipy.special import bdtr

    # two equal tails; they overlap where the flips are split evenly
    return min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5)))


def holm(values: Sequence[float]) -> list[float]:
    """p values adjusted for how many were looked at (Holm 1979), in the order given."""
    order = sorted(range(len(values)), key=values.__getitem__)
    adjusted = [0.0] * len(values)
    floor = 0.0
    for rank, place in enumerate(order):
        floor = max(floor, min(1.0, values[place] * (len(values) - rank)))
        adjusted[place] = floor
    return adjusted


def _bootstrap(away: np.ndarray, rng: np.random.Generator, draws: int) -> tuple[float, float]:
    """Percentiles of the mean under resampling. Outcomes take few values, so counts of values are
    drawn, not cases."""
    values, counts = np.unique(away, return_counts=True)
    drawn = rng.multinomial(len(away), counts / len(away), size=draws)
    low, high = np.quantile(drawn @ values / len(away), (0.025, 0.975))
    return float(low), float(high)


def _sign_flip(away: np.ndarray, rng: np.random.Generator, draws: int) -> float:
    moved = away[away != 0]
    if not len(moved):
        return 1.0
    signs = rng.choice(np.array([-1.0, 1.0]), size=(draws, len(moved)))
    extreme = np.abs(signs @ moved) >= abs(moved.sum()) - 1e-12
    return float((extreme.sum() + 1) / (draws + 1))
