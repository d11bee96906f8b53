"""Records experts' episodes in processes; a killed recording loses only those in flight.

tries.jsonl              a line a try: task, seed, success, steps
episodes/TASK-SEED.npz   frames, state and action of a success, until the data set is written
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.metaworld_tasks import check_tasks
from emt_core.evaluation.recording.mujoco_scene import CameraPose
from emt_core.evaluation.recording.tasks import ROBOT_SETS, RobotSet, RobotTask
from emt_core.evaluation.seeds import TRAIN_SEEDS
from emt_core.recipe.demos import DemosConfig
from emt_core.workspace.lines import whole_lines


def robot_set_of(config: DemosConfig) -> RobotSet:
    """The configuration's tasks with their words.

    Raises EmtError for one that Meta-World does not have or that has no instruction.
    """
    named = (*config.tasks, *config.instructions, *config.show_goal)
    check_tasks(dict.fromkeys(named), "demos.tasks")
    known = {task.env: task for robot_set in ROBOT_SETS for task in robot_set.tasks}
    tasks = []
    for name in config.tasks:
        words = config.instructions.get(name) or (known[name].instructions if name in known else ())
        if not words:
            raise EmtError(
                f"there is no instruction for task {name!r}",
                where="demos.instructions",
                remedy=f"write `instructions: {{{name}: [...]}}`; known: {', '.join(known)}",
            )
        goal = config.show_goal.get(name, known[name].show_goal if name in known else False)
        tasks.append(RobotTask(env=name, instructions=tuple(words), show_goal=goal))
    camera = CameraPose(**config.camera.model_dump())
    return RobotSet(
        name="demos",
        version="v3.0",
        camera=camera,
        tasks=tuple(tasks),
        episodes_per_task=config.episodes_per_task,
        first_seed=TRAIN_SEEDS.start,
    )


@dataclass(frozen=True, kw_only=True)
class Try:
    task: str
    seed: int
    success: bool
    steps: int


class Recorder:
    """Records until every task has its successes. `record` is replaced in tests."""

    def __init__(
        self, folder: Path, config: DemosConfig, robot_set: RobotSet, workers: int
    ) -> None:
        self.folder = folder
        self.config = config
        self.robot_set = robot_set
        self.workers = workers
        (folder / "episodes").mkdir(parents=True, exist_ok=True)
        self.tries = _read_tries(folder / "tries.jsonl")

    def run(self, advance: Callable[[int], None]) -> list[Try]:
        """All tries, failed ones included, by task and seed. `advance(1)` after each success.

        Layout seeds are drawn from TRAIN_SEEDS by the configuration's seed, for each task anew; the
        first successes in that order are kept, so the outcome does not depend on which process was
        quicker. Raises EmtError where a task fails too often.
        """
        while jobs := [
            job for number in range(len(self.robot_set.tasks)) for job in self._missing(number)
        ]:
            for done in self._execute(jobs):
                advance(int(done.success))
        return [done for number in range(len(self.robot_set.tasks)) for done in self._of(number)]

    def kept(self, number: int) -> list[Try]:
        """The successes of task `number` that make the data set, in order."""
        return [done for done in self._of(number) if done.success][: self.config.episodes_per_task]

    def path(self, done: Try) -> Path:
        return episode_path(self.folder, done.task, done.seed)

    def _of(self, number: int) -> list[Try]:
        name = self.robot_set.tasks[number].env
        return [
            self.tries[name, seed] for seed in self._seeds(number) if (name, seed) in self.tries
        ]

    def _seeds(self, number: int) -> list[int]:
        allowed = int(self.config.episodes_per_task * self.config.tries_per_episode)
        order = np.random.default_rng([self.config.seed, number]).permutation(len(TRAIN_SEEDS))
        return [TRAIN_SEEDS[int(place)] for place in order[:allowed]]

    def _missing(self, number: int) -> list[tuple[RobotTask, int]]:
        """The next tries of a task: as many as it lacks successes."""
        task = self.robot_set.tasks[number]
        lacking = self.config.episodes_per_task - len(self.kept(number))
        untried = [seed for seed in self._seeds(number) if (task.env, seed) not in self.tries]
        if lacking > 0 and len(untried) < lacking:
            raise EmtError(
                f"the expert of {task.env!r} fails too often: {len(self.kept(number))} successes "
                "in "
                f"{len(self._of(number))} tries",
                where="demos",
                remedy="raise max_actions or tries_per_episode, or lower noise",
            )
        return [(task, seed) for seed in untried[: max(lacking, 0)]]

    def _execute(self, jobs: Sequence[tuple[RobotTask, int]]) -> Iterator[Try]:
        arguments = [(task, self.robot_set, seed, self.config, self.folder) for task, seed in jobs]
        with (
            (self.folder / "tries.jsonl").open("a", encoding="utf-8") as log,
            _results(arguments, self.workers) as all_,
        ):
            for done in all_:
                self.tries[done.task, done.seed] = done
                log.write(json.dumps(done.__dict__) + "\n")
                log.flush()
                yield done


@contextmanager
def _results(arguments: list[tuple[Any, ...]], workers: int) -> Iterator[Iterator[Try]]:
    """Outcomes as they come. Always in processes of their own, 0 workers being one a core: a
    process that has rendered crashed later, when it trained (off-screen GL and torch in one
    process)."""
    # spawned: a GL context does not survive a fork
    pool = ProcessPoolExecutor(
        workers or os.cpu_count() or 1, mp_context=multiprocessing.get_context("spawn")
    )
    try:
        futures = [pool.submit(_record, *one) for one in arguments]
        yield (future.result() for future in as_completed(futures))
    except BrokenProcessPool as error:
        raise EmtError(
            "a recording process died", remedy="run again: finished episodes are kept"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _record(
    task: RobotTask, robot_set: RobotSet, seed: int, config: DemosConfig, folder: Path
) -> Try:
    from emt_core.evaluation.recording.demonstrations import record_episode

    try:
        episode = record_episode(
            task,
            robot_set,
            seed,
            noise=config.noise,
            size=config.size,
            action_repeat=config.action_repeat,
            max_actions=config.max_actions,
            frames_after_success=config.frames_after_success,
        )
    except ModuleNotFoundError as error:
        raise EmtError(
            f"the simulator is not installed ({error.name})",
            where="demos",
            remedy="pip install '.[sim]'",
        ) from error
    except KeyError as error:
        raise EmtError(f"Meta-World has no task {task.env!r}", where="demos.tasks") from error
    if episode.success:
        path = episode_path(folder, task.env, seed)
        aside = path.with_suffix(".partial")
        with aside.open("wb") as file:
            np.savez_compressed(
                file, frames=episode.frames, state=episode.state, action=episode.action
            )
        aside.replace(path)
    return Try(task=task.env, seed=seed, success=bool(episode.success), steps=len(episode.action))


def episode_path(folder: Path, task: str, seed: int) -> Path:
    return folder / "episodes" / f"{task}-{seed}.npz"


def _read_tries(path: Path) -> dict[tuple[str, int], Try]:
    found = {}
    for done in (Try(**line) for line in whole_lines(path)):
        if not done.success or episode_path(path.parent, done.task, done.seed).exists():
            found[done.task, done.seed] = done
    return found
