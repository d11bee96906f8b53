"""Success by checkpoint and task with intervals, and the checkpoint that is reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

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
        chosen = max(checkpoints, key=lambda found: (found["mean"]["rate"], found["checkpoint"]))
    return {
        "benchmark": benchmark,
        "rule": rule,
        "rule_text": RULES[rule],
        "chosen": chosen["checkpoint"],
        "checkpoints": checkpoints,
    }


def _checkpoint(step: int, episodes: Sequence[Row]) -> dict[str, Any]:
    names = dict.fromkeys(row["task"] for row in episodes)
    tasks = [_task(name, [row for row in episodes if row["task"] == name]) for name in names]
    found: dict[str, Any] = {
        "checkpoint": step,
        "mean": {**_share(episodes), "rate": sum(task["rate"] for task in tasks) / len(tasks)},
        "tasks": tasks,
        "failures": _failures(episodes),
    }
    goals = max(row["goals"] for row in episodes)
    if goals > 1:
        completed = [row["completed"] for row in episodes]
        found["average_length"] = sum(completed) / len(completed)
        found["reached"] = [
            sum(c >= goal for c in completed) / len(completed) for goal in range(1, goals + 1)
        ]
    return found


def _task(name: str, episodes: Sequence[Row]) -> dict[str, Any]:
    return {"task": name, **_share(episodes), "failures": _failures(episodes)}


def _share(episodes: Sequence[Row]) -> dict[str, Any]:
    """Share of successes; crashed episodes count. The interval of several tasks pools episodes."""
    trials = len(episodes)
    successes = sum(bool(row["success"]) for row in episodes)
    low, high = wilson(successes, trials)
    return {
        "n": trials,
        "successes": successes,
        "rate": successes / trials,
        "low": low,
        "high": high,
    }


def _failures(episodes: Sequence[Row]) -> dict[str, int]:
    return dict(Counter(row["failure"] for row in episodes if row["failure"]))
