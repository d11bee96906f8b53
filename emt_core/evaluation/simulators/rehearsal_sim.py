"""A simulator of a dot to be moved, for tests and to measure what the loop itself costs.

The state is a point; the frame shows it and its goal as two coloured squares; an action moves it.
Tasks named `crash`, `hang` and `raise` do that after `trouble_after` steps; `chain` has three goals
in a row.
"""

from __future__ import annotations

import os
import time

import numpy as np

NEAR = 0.08
CHAIN = 3


class Simulator:
    """settings: `size` in pixels; `step_seconds`, `frame_seconds`: pretended work."""

    action_dim = 2

    def __init__(self, settings):
        if settings.get("fail"):
            raise ImportError("No module named 'rehearsal_dependency'")
        if os.environ["MUJOCO_GL"] in settings.get("without_graphics", ()):
            raise RuntimeError("no EGL display, or whatever a driver says")
        self.settings = settings

    def versions(self):
        return {"rehearsal": "1"}

    def begin(self, episode):
        self.task = episode["task"]
        self.rng = np.random.RandomState(episode["seed"])
        self.trouble_after = episode.get("trouble_after", 3)
        self.steps = 0
        self.goals = 0
        self.place = self.rng.uniform(0.1, 0.9, 2)
        return self._new_goal()

    def step(self, action):
        self.steps += 1
        self._trouble()
        self._work("step_seconds")
        self.place = np.clip(self.place + 0.1 * np.clip(np.asarray(action, float), -1, 1), 0, 1)
        return bool(np.abs(self.place - self.goal).max() < NEAR)

    def frame(self):
        self._work("frame_seconds")
        size = self.settings["size"]
        image = np.zeros((size, size, 3), np.uint8)
        for spot, channel in ((self.goal, 1), (self.place, 0)):
            x, y = (spot * (size - 1)).astype(int)
            image[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3, channel] = 255
        return image

    def state(self):
        return self.place

    def next_goal(self):
        self.goals += 1
        return self._new_goal() if self.task == "chain" and self.goals < CHAIN else None

    def expert(self):
        return (self.goal - self.place) * 10

    def close(self):
        pass

    def _new_goal(self):
        self.goal = self.rng.uniform(0.1, 0.9, 2)
        return f"bring the red dot to the green one ({self.goals})"

    def _trouble(self):
        if self.steps < self.trouble_after:
            return
        if self.task == "crash":
            os._exit(3)
        if self.task == "hang":
            time.sleep(3600)
        if self.task == "raise":
            raise RuntimeError("the dot fell off the table")

    def _work(self, name):
        """Busy, as a simulator is; sleeping would hide what the processes cost each other."""
        end = time.perf_counter() + self.settings.get(name, 0.0)
        while time.perf_counter() < end:
            pass
