"""Arms against each other: means with intervals, success over checkpoints, paired tests.

Two sources of chance are kept apart. The interval of an arm and the paired test are over episodes:
they say what these trained policies would do on further layouts. What another training run would do
shows in the spread over seeds alone: with three or more seeds as a t interval of the differences
seed by seed (seeds share data order and layouts).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from emt_core.errors import EmtError
from emt_core.evaluation.comparison.runs import Run, by_arm
from emt_core.evaluation.proportion import Paired, holm, paired, wilson

FEWEST_SEEDS = 3
"""Seeds from which an interval over seeds is worth its name (with two, t is 12.7)."""

SMALL_P = 0.05

REFERENCES = ("none", "random")
"""Arms that others are compared with, where there are any of that name."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    name: str
    runs: tuple[Run, ...]
    episodes: int
    rate: float | None
    """Mean success: over tasks, then over the seeds that have one; None where none has."""

    low: float | None
    high: float | None
    """Wilson 95 % of all its episodes; None where none was played to its end."""

    seeds: tuple[tuple[str, float | None], ...]
    """(seed, mean success) of each run."""

    average_length: float | None
    """Chains: goals completed, on average."""

    checkpoints: tuple[int, ...]
    """The checkpoint that each run reports."""


def arms_of(runs: Sequence[Run]) -> list[Arm]:
    """Comparable runs (runs.py) as arms, in first-seen order.

    Raises EmtError where an arm has two runs of one seed: they would pass for two seeds, or one
    hide the other.
    """
    seen: dict[tuple[str, str], str] = {}
    for run in runs:
        twin = seen.setdefault((run.arm, run.seed), run.label)
        if twin != run.label:
            raise EmtError(
                f"arm {run.arm!r} has two evaluations with seed {run.seed or 'none'!r}: {twin} and "
                f"{run.label}",
                where="comparison of arms",
                remedy="compare the instances of `evaluate` one at a time",
            )
    return [_arm(name, found) for name, found in by_arm(runs).items()]


def _arm(name: str, runs: Sequence[Run]) -> Arm:
    pooled = _pool([run.chosen["mean"] for run in runs])
    lengths = [run.chosen["average_length"] for run in runs if "average_length" in run.chosen]
    return Arm(
        name=name,
        runs=tuple(runs),
        episodes=pooled["n"],
        rate=pooled["rate"],
        low=pooled["low"],
        high=pooled["high"],
        seeds=tuple((run.seed, run.chosen["mean"]["rate"]) for run in runs),
        average_length=float(np.mean(lengths)) if len(lengths) == len(runs) else None,
        checkpoints=tuple(run.results["chosen"] for run in runs),
    )


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of a few values, which are taken as normal."""
    from scipy.special import stdtrit

    half = (
        float(stdtrit(len(values) - 1, 0.975)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    )
    mean = float(np.mean(values))
    return mean - half, mean + half


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An arm minus the reference, on the episodes that both played."""

    arm: str
    reference: str
    paired: Paired
    p_adjusted: float
    """Holm, over the arms that were compared. Of these trained policies, not of the way they were
    made."""

    seeds: tuple[tuple[str, float], ...]
    """(seed, difference of mean success) of the seeds that both have."""

    seed_interval: tuple[float, float] | None
    """95 % t interval of the mean of these, within [-1, 1]; None below FEWEST_SEEDS."""

    @property
    def shown_by(self) -> Literal["seeds", "runs", "nothing"]:
        """The most that carries the difference: the interval over seeds leaves out 0; these runs
        differ; neither."""
        if self.seed_interval is not None and (
            self.seed_interval[0] > 0 or self.seed_interval[1] < 0
        ):
            return "seeds"
        return "runs" if self.p_adjusted < SMALL_P else "nothing"


def reference_of(names: Sequence[str]) -> str:
    return next((name for name in REFERENCES if name in names), names[0])


def differences(arms: Sequence[Arm], reference: str) -> list[Difference]:
    """Every other arm against the reference: same seed, task and layout. An arm with no common
    episode is left out."""
    outcomes = {arm.name: _outcomes(arm) for arm in arms}
    base = outcomes[reference]
    found: list[tuple[str, Paired]] = []
    for arm in arms:
        common = sorted(base.keys() & outcomes[arm.name].keys()) if arm.name != reference else []
        if common:
            mine, theirs = ([side[case] for case in common] for side in (outcomes[arm.name], base))
            found.append((arm.name, paired(mine, theirs)))
    adjusted = holm([result.p for _, result in found])
    rates = {arm.name: {seed: rate for seed, rate in arm.seeds if rate is not None} for arm in arms}
    return [
        _difference(name, reference, result, p, rates)
        for (name, result), p in zip(found, adjusted, strict=True)
    ]


def _difference(
    name: str, reference: str, result: Paired, p: float, rates: dict[str, dict[str, float]]
) -> Difference:
    theirs = rates[reference]
    seeds = tuple(
        (seed, rate - theirs[seed]) for seed, rate in rates[name].items() if seed in theirs
    )
    interval = None
    if len(seeds) >= FEWEST_SEEDS:
        low, high = t_interval([value for _, value in seeds])
        interval = max(low, -1.0), min(high, 1.0)
    return Difference(
        arm=name,
        reference=reference,
        paired=result,
        p_adjusted=p,
        seeds=seeds,
        seed_interval=interval,
    )


def _outcomes(arm: Arm) -> dict[tuple[str, str, int], float]:
    found: dict[tuple[str, str, int], float] = {}
    for run in arm.runs:
        found |= run.outcomes()
    return found


def by_task(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """A row an arm and task at the chosen checkpoints, with rate, interval and failures."""
    rows = []
    for arm in arms:
        pooled: dict[str, list[dict[str, Any]]] = {}
        for run in arm.runs:
            for task in run.chosen["tasks"]:
                pooled.setdefault(task["task"], []).append(task)
        rows += [{"arm": arm.name, "task": name, **_pool(parts)} for name, parts in pooled.items()]
    return rows


def dynamics(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """A row an arm and checkpoint (paper, Fig. 3), with runs, rate and interval."""
    rows = []
    for arm in arms:
        pooled: dict[int, list[dict[str, Any]]] = {}
        for run in arm.runs:
            for checkpoint in run.results["checkpoints"]:
                pooled.setdefault(checkpoint["checkpoint"], []).append(checkpoint["mean"])
        rows += [
            {"arm": arm.name, "checkpoint": step, "runs": len(parts), **_pool(parts)}
            for step, parts in sorted(pooled.items())
        ]
    return rows


def _pool(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several seeds' shares as one: mean of the rates, Wilson interval of all their episodes.

    Seeds without a rate are left out.
    """
    known = [part for part in parts if part["rate"] is not None]
    trials = sum(part["n"] for part in known)
    successes = sum(part["successes"] for part in known)
    low, high = wilson(successes, trials) if trials else (None, None)
    return {
        "n": trials,
        "successes": successes,
        "rate": float(np.mean([part["rate"] for part in known])) if known else None,
        "low": low,
        "high": high,
        **{name: _summed(part.get(name, {}) for part in parts) for name in ("failures", "faults")},
    }


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    return dict(sum(map(Counter, counts), Counter[str]()))
