"""Success by checkpoint and task with intervals, and the checkpoint that is reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from emt_core.evaluation.benchmarks.base import FAULTS
from emt_core.evaluation.proportion import wilson

Row = Mapping[str, Any]

RULES = {
    "last": "the last checkpoint that was evaluated, whatever the others did",
    "best": "the checkpoint with the highest mean success on these same episodes, which flatters "
    "it",
}


def summarize(episodes: Sequence[Row], *, benchmark: str, rule: str) -> dict[str, Any]:
    """results.json (docs/architecture.md). episodes: rows of episodes.SCHEMA, sorted, at least
    one."""
    steps = sorted({row["checkpoint"] for row in episodes})
    checkpoints = [
        _checkpoint(step, [row for row in episodes if row["checkpoint"] == step]) for step in steps
    ]
    chosen = checkpoints[-1]
    if rule == "best":
        known = [found for found in checkpoints if found["mean"]["rate"] is not None]
        chosen = max(
            known or checkpoints,
            key=lambda found: (found["mean"]["rate"] or 0.0, found["checkpoint"]),
        )
    return {
        "benchmark": benchmark,
        "rule": rule,
        "rule_text": RULES[rule],
        "chosen": chosen["checkpoint"],
        "checkpoints": checkpoints,
    }


def _checkpoint(step: int, episodes: Sequence[Row]) -> dict[str, Any]:
    """The mean is over tasks; a task without a rate leaves none, for the others are no sample."""
    names = dict.fromkeys(row["task"] for row in episodes)
    tasks = [_counted(name, [row for row in episodes if row["task"] == name]) for name in names]
    rates = [task["rate"] for task in tasks]
    pooled = _counted("", episodes)
    mean = {name: pooled[name] for name in ("n", "successes", "low", "high")}
    if None in rates:
        mean |= dict.fromkeys(("rate", "low", "high"))
    else:
        mean |= {"rate": sum(rates) / len(rates)}
    found: dict[str, Any] = {
        "checkpoint": step,
        "mean": mean,
        "tasks": tasks,
        "failures": pooled["failures"],
        "faults": pooled["faults"],
    }
    goals = max(row["goals"] for row in episodes)
    completed = [row["completed"] for row in episodes if row["failure"] not in FAULTS]
    if goals > 1 and completed:
        found["average_length"] = sum(completed) / len(completed)
        found["reached"] = [
            sum(c >= goal for c in completed) / len(completed) for goal in range(1, goals + 1)
        ]
    return found


def _counted(task: str, episodes: Sequence[Row]) -> dict[str, Any]:
    """Share of successes of the n episodes that no fault of the simulator ended.

    rate, low and high are None where there is none. The interval of several tasks pools episodes.
    """
    kinds = Counter(row["failure"] for row in episodes if row["failure"])
    faults = {kind: count for kind, count in kinds.items() if kind in FAULTS}
    trials = len(episodes) - sum(faults.values())
    successes = sum(bool(row["success"]) for row in episodes)
    low, high = wilson(successes, trials) if trials else (None, None)
    return {
        "task": task,
        "n": trials,
        "successes": successes,
        "rate": successes / trials if trials else None,
        "low": low,
        "high": high,
        "failures": {kind: count for kind, count in kinds.items() if kind not in FAULTS},
        "faults": faults,
    }
