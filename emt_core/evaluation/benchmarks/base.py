"""What a benchmark is to the evaluator: tasks, layouts, limits, how to have its simulator. It
imports none.

A benchmark's file turns its part of a recipe into a `Benchmark`; `episodes_of` lists what is to be
played; a worker (worker.py) plays it in the simulator's own interpreter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from emt_core.errors import EmtError
from emt_core.evaluation.seeds import EVAL_SEEDS, check_eval_seed

MOST_EPISODES = 1000
"""Most episodes of a task: keeps the layouts of one evaluation seed apart from the next one's."""

FAILURES = {
    "step_cap": "the task was not solved within its steps",
    "bad_action": "the policy gave an action that is not finite",
}
"""How an episode fails that was played to its end: it counts as not solved."""

FAULTS = {
    "crashed": "the simulator's process died",
    "hung": "the simulator did not answer in time",
    "error": "the simulator raised an error",
}
"""How a simulator fails, twice in the same episode: it counts neither way."""


@dataclass(frozen=True, kw_only=True)
class Task:
    name: str
    max_steps: int
    """Actions a goal."""

    instructions: tuple[str, ...] = ()
    """Our words, taken in turn; () where the simulator has its own."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON for the simulator's `begin`, over `task` and `seed`."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    name: str
    title: str
    settings: Mapping[str, Any]
    """JSON for the simulator's constructor."""

    tasks: tuple[Task, ...]
    episodes: int
    """Episodes a task in the published protocol."""

    layouts: Literal["drawn", "fixed"]
    """`drawn`: from EVAL_SEEDS. `fixed`: the benchmark's own, numbered from 0."""

    fixed_layouts: int = 0
    goals: int = 1
    """Instructions in a row that make one episode (CALVIN: 5)."""

    fps: float = 10.0
    """Actions a second: what a video plays at, divided by the actions between two frames."""

    state: tuple[str, ...] = ()
    """Names of the state that its simulator sends with each frame, as LeRobot sets of this robot
    name the dimensions of `observation.state`: what actions of kind delta are measured from."""

    timeout_s: float = 180.0
    module: str = ""
    """What its simulator imports first; "": nothing that has to be installed."""

    install: str = ""
    """How to have the simulator: shown where it is missing."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode to be played."""

    benchmark: str
    task: str
    number: int
    seed: int
    """Of the layout: a seed of EVAL_SEEDS, or the number of a fixed layout."""

    begin: Mapping[str, Any]
    """Fields of the message that starts it."""


def episodes_of(benchmark: Benchmark, count: int | None, seed: int) -> list[Episode]:
    """Every episode, task by task. `count` a task (None: the protocol's); `seed` chooses drawn
    layouts.

    Raises EmtError where a benchmark has fewer fixed layouts than are asked for.
    """
    count = benchmark.episodes if count is None else count
    if benchmark.layouts == "fixed" and count > benchmark.fixed_layouts:
        raise EmtError(
            f"{benchmark.name} has {benchmark.fixed_layouts} layouts a task, {count} episodes were "
            "asked for",
            where="evaluate.episodes",
            remedy=f"ask for at most {benchmark.fixed_layouts}",
        )
    return [
        _episode(
            benchmark,
            task,
            number,
            layout_seed(seed, number) if benchmark.layouts == "drawn" else number,
        )
        for task in benchmark.tasks
        for number in range(count)
    ]


def layout_seed(seed: int, number: int) -> int:
    """Layout of episode `number` under seed `seed`: one of EVAL_SEEDS, another for every pair."""
    if not 0 <= number < MOST_EPISODES:
        raise EmtError(
            f"episode {number} of a task", remedy=f"at most {MOST_EPISODES} episodes a task"
        )
    return check_eval_seed(EVAL_SEEDS.start + seed * MOST_EPISODES + number)


def _episode(benchmark: Benchmark, task: Task, number: int, seed: int) -> Episode:
    begin = {"task": task.name, "seed": seed, "max_steps": task.max_steps, **task.facts}
    if task.instructions:
        begin["instruction"] = task.instructions[number % len(task.instructions)]
    return Episode(benchmark=benchmark.name, task=task.name, number=number, seed=seed, begin=begin)
