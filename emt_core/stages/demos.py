"""demos: record Meta-World's scripted experts as a LeRobot v3.0 data set.

lerobot/            the data set (data/robot/lerobot_writer.py), camera observation.images.front
episodes.parquet    task instruction seed success steps kept: every try, failed ones included
recording.json      what an evaluator has to do alike: camera, image size, action repeat,
                    visible goals, instructions

Its layouts are never used by evaluation. Interrupted, it goes on behind the last recorded episode
(evaluation/recording/recorder.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from emt_core.evaluation.benchmarks import metaworld
from emt_core.evaluation.closed_loop.launching import check_simulator
from emt_core.evaluation.recording.recorder import Recorder, robot_set_of
from emt_core.evaluation.recording.tasks import ACTION_NAMES, STATE_NAMES, RobotSet
from emt_core.recipe.demos import DemosConfig
from emt_core.recipe.evaluate import MetaWorldConfig
from emt_core.run.plan import Instance
from emt_core.run.stage import Context, Outcome
from emt_core.workspace.files import write_json

VERSION = 2

CONTROL_HZ = 80
"""Meta-World's control steps a second (12.5 ms each)."""

QUANTIZER = 20
"""Of H.264: a policy is trained on these pixels, so better than the shipped demo's 26."""


def identity(config: DemosConfig, base: Path) -> dict[str, Any]:
    """The words and visible goals that the code, not the recipe, may have given.

    Raises EmtError for unknown tasks.
    """
    return {
        task.env: [list(task.instructions), task.show_goal] for task in robot_set_of(config).tasks
    }


def check(instance: Instance, base: Path) -> None:
    """Raises EmtError where the simulator is not installed."""
    check_simulator(metaworld.benchmark(MetaWorldConfig(name="metaworld"), None), "")


def run(context: Context) -> Outcome:
    config = context.config
    assert isinstance(config, DemosConfig)
    robot_set = robot_set_of(config)
    wanted = config.episodes_per_task * len(robot_set.tasks)
    recorder = Recorder(context.out, config, robot_set, context.runtime.workers)
    already = sum(len(recorder.kept(number)) for number in range(len(robot_set.tasks)))
    with context.progress.track("recording", wanted, done=already, unit="episodes") as tracker:
        tries = recorder.run(tracker.advance)
    frames = _write_set(context.out / "lerobot", recorder, robot_set, config)
    kept = [done for number in range(len(robot_set.tasks)) for done in recorder.kept(number)]
    kept_tries = {(done.task, done.seed) for done in kept}
    names = ("task", "seed", "success", "steps")
    columns = {name: [getattr(done, name) for done in tries] for name in names}
    columns["kept"] = [(done.task, done.seed) in kept_tries for done in tries]
    parquet.write_table(pa.table(columns), context.out / "episodes.parquet")
    write_json(context.out / "recording.json", recording_facts(config, robot_set))
    failed = sum(not done.success for done in tries)
    metrics = {"episodes": wanted, "frames": frames, "failed": failed, "tries": len(tries)}
    return Outcome(rows=wanted, metrics=metrics, scratch=("episodes", "tries.jsonl"))


def recording_facts(config: DemosConfig, robot_set: RobotSet) -> dict[str, Any]:
    """JSON: how the simulator was set up; goes with the policy into its folder."""
    return {
        "benchmark": "metaworld",
        "camera": config.camera.model_dump(mode="json"),
        "size": config.size,
        "action_repeat": config.action_repeat,
        "max_actions": config.max_actions,
        "fps": CONTROL_HZ // config.action_repeat,
        "show_goal": {task.env: task.show_goal for task in robot_set.tasks},
        "instructions": {task.env: list(task.instructions) for task in robot_set.tasks},
    }


def _write_set(root: Path, recorder: Recorder, robot_set: RobotSet, config: DemosConfig) -> int:
    """Write the data set; returns its number of frames.

    Tasks come in turn, so that the first episodes of a limited reading hold every task.
    """
    from emt_core.data.robot.lerobot_writer import LeRobotWriter
    from emt_core.evaluation.recording.demonstrations import CAMERA

    shutil.rmtree(root, ignore_errors=True)  # from a run that was killed before it committed
    frames = 0
    with LeRobotWriter(
        root,
        fps=CONTROL_HZ // config.action_repeat,
        cameras={CAMERA: (config.size, config.size)},
        state_names=STATE_NAMES,
        action_names=ACTION_NAMES,
        robot_type="sawyer",
        quantizer=QUANTIZER,
    ) as writer:
        for turn in range(config.episodes_per_task):
            for number, task in enumerate(robot_set.tasks):
                done = recorder.kept(number)[turn]
                extra = {
                    "env": task.env,
                    "seed": done.seed,
                    "action_repeat": config.action_repeat,
                }
                with np.load(recorder.path(done), allow_pickle=False) as episode:
                    writer.add_episode(
                        task=task.instructions[turn % len(task.instructions)],
                        images={CAMERA: episode["frames"]},
                        state=episode["state"],
                        action=episode["action"],
                        extra=extra,
                    )
                frames += done.steps
    return frames
