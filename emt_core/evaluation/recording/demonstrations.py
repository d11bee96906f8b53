"""Records the demo's robot sets: Meta-World's scripted experts into LeRobot folders.

    python -m emt_core.evaluation.recording.demonstrations --out assets/demo/robots \\
        [--sets arm_reach_push] [--episodes-per-task 2]

Build time only (extra `sim`, off-screen GL); what it writes is shipped.
"""

# mujoco is built in C++ and has no stubs; the simulators are an optional extra as well.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.data.robot.lerobot_writer import LeRobotWriter
from emt_core.errors import EmtError
from emt_core.evaluation.recording.mujoco_scene import SceneRenderer, point_camera, use_headless_gl
from emt_core.evaluation.recording.tasks import (
    ACTION_NAMES,
    ACTION_NOISE,
    ACTION_REPEAT,
    DEMONSTRATION_SEEDS,
    FPS,
    FRAMES_AFTER_SUCCESS,
    IMAGE_SIZE,
    MAX_ACTIONS,
    ROBOT_SETS,
    STATE_NAMES,
    RobotSet,
    RobotTask,
)

CAMERA = "observation.images.front"
#: The camera of Meta-World's models that we move to the robot set's pose.
_MODEL_CAMERA = "corner2"


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One expert run; T recorded actions."""

    frames: np.ndarray
    """(T, size, size, 3) uint8, the view *before* each action."""
    state: np.ndarray
    """(T, 4) float32: hand position in metres, gripper opening in [0, 1]; no object is in it."""
    action: np.ndarray
    """(T, 4) float32 in [-1, 1]: the expert's noise-free action."""
    success: bool


def make_env(task: RobotTask, robot_set: RobotSet, seed: int):
    """A Meta-World environment reset to the layout of `seed`, its camera moved.

    Returns (env, observation, camera id). Do not reset it again: each reset draws another layout.
    """
    use_headless_gl()
    import mujoco
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE

    make: Any = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task.env}-goal-observable"]
    env = make(seed=seed)
    observation, _ = env.reset()
    camera_id = point_camera(env.model, _MODEL_CAMERA, robot_set.camera)
    if not task.show_goal:
        for site in range(env.model.nsite):
            if "goal" in env.model.site(site).name.lower():
                env.model.site_rgba[site, 3] = 0.0
    # Some tasks set joints (an open window, a drawer) after their last forward pass: without this
    # one the first frame would show the state before.
    mujoco.mj_forward(env.model, env.data)
    return env, observation, camera_id


def record_episode(
    task: RobotTask,
    robot_set: RobotSet,
    seed: int,
    *,
    noise: float = ACTION_NOISE,
    size: int = IMAGE_SIZE,
    action_repeat: int = ACTION_REPEAT,
    max_actions: int = MAX_ACTIONS,
    frames_after_success: int = FRAMES_AFTER_SUCCESS,
) -> Episode:
    """Run the task's scripted expert once. seed: of layout and noise; size: image side, pixels.

    Raises EmtError for a seed outside DEMONSTRATION_SEEDS: those are for evaluation.
    """
    use_headless_gl()
    from metaworld.policies import ENV_POLICY_MAP

    if seed not in DEMONSTRATION_SEEDS:
        raise EmtError(
            f"Seed {seed} is reserved for evaluation", remedy=f"use one of {DEMONSTRATION_SEEDS}"
        )
    env, observation, camera_id = make_env(task, robot_set, seed)
    expert = ENV_POLICY_MAP[task.env]()
    rng = np.random.default_rng(seed)
    frames = []
    states = []
    actions = []
    left = frames_after_success
    success = False
    with SceneRenderer(env.model, size=size) as renderer:
        for _ in range(max_actions):
            clean = np.clip(expert.get_action(observation), -1.0, 1.0)
            frames.append(renderer.rgb(env.data, camera_id))
            states.append(observation[:4])
            actions.append(clean)
            executed = np.clip(clean + rng.normal(0.0, noise, clean.shape), -1.0, 1.0)
            for _ in range(action_repeat):
                observation, _, _, _, info = env.step(executed.astype(np.float32))
                success = success or info["success"] > 0.5
            if success:
                left -= 1
                if left < 0:
                    break
    env.close()
    return Episode(
        frames=np.stack(frames),
        state=np.asarray(states, np.float32),
        action=np.asarray(actions, np.float32),
        success=success,
    )


def record_set(robot_set: RobotSet, root: Path, *, quantizer: int = 26) -> dict[str, int]:
    """Record the set, tasks interleaved, and write it. Returns counts, failed tries included."""
    counts = {"episodes": 0, "frames": 0, "failed": 0}
    seed = robot_set.first_seed
    with LeRobotWriter(
        root,
        fps=FPS,
        cameras={CAMERA: (IMAGE_SIZE, IMAGE_SIZE)},
        state_names=STATE_NAMES,
        action_names=ACTION_NAMES,
        version=robot_set.version,  # type: ignore[arg-type]
        robot_type="sawyer",
        quantizer=quantizer,
    ) as writer:
        for number in range(robot_set.episodes_per_task * len(robot_set.tasks)):
            task = robot_set.tasks[number % len(robot_set.tasks)]
            while not (episode := record_episode(task, robot_set, seed)).success:
                counts["failed"] += 1
                seed += 1
            phrasing = task.instructions[(number // len(robot_set.tasks)) % len(task.instructions)]
            writer.add_episode(
                task=phrasing,
                images={CAMERA: episode.frames},
                state=episode.state,
                action=episode.action,
                extra={"env": task.env, "seed": seed, "action_repeat": ACTION_REPEAT},
            )
            counts["episodes"] += 1
            counts["frames"] += len(episode.frames)
            seed += 1
    return counts


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=[s.name for s in ROBOT_SETS])
    parser.add_argument("--episodes-per-task", type=int)
    parser.add_argument("--quantizer", type=int, default=26)
    args = parser.parse_args(argv)
    for robot_set in ROBOT_SETS:
        if robot_set.name in args.sets:
            if args.episodes_per_task:
                robot_set = replace(robot_set, episodes_per_task=args.episodes_per_task)
            print(
                robot_set.name,
                record_set(robot_set, args.out / robot_set.name, quantizer=args.quantizer),
                flush=True,
            )


if __name__ == "__main__":
    main()
