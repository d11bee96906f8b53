"""A fake policy for the rehearsal simulator: it sees two coloured squares and steers one to the
other; and the map of
actions that are measured from the state."""

from __future__ import annotations

import numpy as np

from emt_core.data.robot.actions import ActionMap


class DotPolicy:
    """gain: 1 goes as fast as it can see; 0 stands still. `seen`: every batch of images."""

    action_dim = 2

    def __init__(self, *, gain: float = 0.5, chunk: int = 3) -> None:
        self.gain, self.chunk = gain, chunk
        self.seen: list[np.ndarray] = []

    def act(self, images: np.ndarray, instructions: list[str]) -> np.ndarray:
        assert len(instructions) == len(images)
        self.seen.append(images.copy())
        return np.stack([self._chunk(image) for image in images])

    def _chunk(self, image: np.ndarray) -> np.ndarray:
        goal, place = (np.argwhere(image[..., channel] > 0).mean(0)[::-1] for channel in (1, 0))
        move = (goal - place) / (len(image) - 1) * 10 * self.gain
        return np.repeat(np.clip(move, -1, 1)[None], self.chunk, axis=0).astype(np.float32)


def delta_map(**changes) -> ActionMap:
    """Two action dimensions measured from the state's last two numbers."""
    facts = {
        "names": ("x", "y"),
        "arm": (0, 1),
        "gripper": (),
        "delta": True,
        "reference": (2, 1),
        "reference_column": "observation.state",
        "reference_names": ("pad", "dot_y", "dot_x"),
        "arm_low": (-1.0, -1.0),
        "arm_high": (1.0, 1.0),
        "binary": False,
        "gripper_threshold": 0.5,
        "gripper_low": (),
        "gripper_high": (),
        "mean": (0.0, 0.0),
    }
    return ActionMap(**{**facts, **changes})
