"""Robot sets whose pictures tell the action, and a recipe that probes the tiny VLM on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tiny_models import save_internvl

CAMERA = "observation.images.front"
INSTRUCTIONS = ("push the red block", "open the drawer")


def write_told(folder: Path, *, episodes: int, seed: int, frames: int = 8) -> None:
    """LeRobot v3.0: red and blue of a picture are the action, its green is the hand's place; the
    episode's task is told by a bright left or right half."""
    from emt_core.data.robot.lerobot_writer import LeRobotWriter

    rng = np.random.default_rng(seed)
    with LeRobotWriter(
        folder, fps=10, cameras={CAMERA: (56, 56)}, state_names=("s",), action_names=("x", "y")
    ) as writer:
        for number in range(episodes):
            task = number % 2
            action = rng.uniform(-1, 1, (frames, 2)).astype(np.float32)
            hand = rng.uniform(-1, 1, (frames, 1)).astype(np.float32)
            color = np.stack([action[:, 0], hand[:, 0], action[:, 1]], 1) * 55 + 70
            images = np.repeat(color[:, None, None], 56, 1).repeat(56, 2)
            half = slice(0, 28) if task else slice(28, 56)
            images[:, :, half] += 80
            writer.add_episode(
                task=INSTRUCTIONS[task],
                images={CAMERA: images.clip(0, 255).astype(np.uint8)},
                state=hand,
                action=action,
            )


def write_probe_world(folder: Path) -> Path:
    save_internvl(folder / "vlm")
    write_told(folder / "told", episodes=16, seed=0)
    write_told(folder / "other", episodes=4, seed=1)
    return folder


def recipe_of(base: Path, **changes: Any) -> dict[str, Any]:
    probe = {
        "start": "backbone",
        "data": [{"name": "told", "path": "told", "camera": CAMERA}],
        "unseen": [{"name": "other", "path": "other", "camera": CAMERA}],
        "chunk": 1,
        "image_size": 56,
        "folds": 4,
        "seeds": 2,
        "hidden": [16],
    }
    return {
        "name": "asks",
        "base": str(base),
        "backbone": "vlm",
        "runtime": {"workers": 0, "batch": 16, "device": "cpu"},
        "probe": probe | changes,
    }
