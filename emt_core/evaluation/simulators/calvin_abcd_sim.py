"""CALVIN's chains of five instructions on scene D, in a worker; needs CALVIN and its data set.

Only the data set's validation folder is read: the scene's configuration lies there.
"""

# The simulator lies in another interpreter: there is nothing here to check types against.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportArgumentType=false

from __future__ import annotations

import pathlib

import calvin_agent
import hydra
import numpy as np
from calvin_agent.evaluation.multistep_sequences import get_sequences
from calvin_agent.evaluation.utils import get_env_state_for_initial_condition
from calvin_env.envs.play_table_env import get_env
from omegaconf import OmegaConf


class Simulator:
    """settings: `dataset` folder (task_ABC_D), `chains` in the whole protocol (1,000).

    episode: `seed`: the chain's number.

    Which chains there are depends on how many are asked for, so that number is a setting and not an
    episode's.
    """

    action_dim = 7

    def __init__(self, settings):
        configs = pathlib.Path(calvin_agent.__file__).resolve().parents[1] / "conf"
        self.oracle = hydra.utils.instantiate(
            OmegaConf.load(configs / "callbacks/rollout/tasks/new_playtable_tasks.yaml")
        )
        self.words = OmegaConf.load(configs / "annotations/new_playtable_validation.yaml")
        self.chains = get_sequences(settings["chains"])
        self.env = get_env(pathlib.Path(settings["dataset"]) / "validation", show_gui=False)

    def versions(self):
        import pybullet

        return {"pybullet": str(pybullet.getAPIVersion())}

    def begin(self, episode):
        state, goals = self.chains[episode["seed"]]
        robot, scene = get_env_state_for_initial_condition(state)
        self.env.reset(robot_obs=robot, scene_obs=scene)
        self.observation = self.env.get_obs()
        self.goals = list(goals)
        return self._start_goal()

    def step(self, action):
        """action: relative x, y, z, roll, pitch, yaw in CALVIN's scale, gripper (open above 0)."""
        action = np.array(action, np.float64)
        action[6] = 1.0 if action[6] > 0 else -1.0
        self.observation, _, _, now = self.env.step(action)
        return len(self.oracle.get_task_info_for_set(self.before, now, {self.goals[0]})) > 0

    def frame(self):
        """uint8 [200, 200, 3]: the static camera."""
        return np.asarray(self.observation["rgb_obs"]["rgb_static"])[..., :3].astype(np.uint8)

    def state(self):
        """[6]: the tool's position in meters, roll, pitch, yaw, as CALVIN's robot_obs has them."""
        return self.observation["robot_obs"][:6]

    def next_goal(self):
        self.goals.pop(0)
        return self._start_goal() if self.goals else None

    def close(self):
        self.env.close()

    def _start_goal(self):
        self.before = self.env.get_info()
        return str(self.words[self.goals[0]][0])
