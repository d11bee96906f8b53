"""SimplerEnv's WidowX tasks (visual matching) in a worker; needs SAPIEN and Vulkan."""

# The simulator lies in another interpreter: there is nothing here to check types against.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

from __future__ import annotations

import numpy as np
import simpler_env
from transforms3d.euler import euler2axangle, mat2euler
from transforms3d.quaternions import quat2mat

CAMERA = "3rd_view_camera"
BRIDGE_HAND = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


class Simulator:
    """episode: `task` (`widowx_carrot_on_plate`), `seed`: prepackaged layout, 0 to 23."""

    action_dim = 7

    def __init__(self, settings):
        self.settings = settings
        self.env = None
        self.task = ""

    def versions(self):
        import sapien

        return {
            "sapien": getattr(sapien, "__version__", ""),
            "simpler_env": getattr(simpler_env, "__version__", ""),
        }

    def begin(self, episode):
        if self.task != episode["task"]:
            self.close()
            # prepackaged: the scene, robot pose, overlay, 5 Hz control and 500 Hz simulation of
            # visual matching
            self.env = simpler_env.make(episode["task"])
            self.task = episode["task"]
        self.observation, _ = self.env.reset(
            options={"obj_init_options": {"episode_id": episode["seed"]}}
        )
        return self.env.get_language_instruction()

    def step(self, action):
        """action: x, y, z in meters, roll, pitch, yaw in radians, gripper (open above 0.5)."""
        axis, angle = euler2axangle(*[float(turn) for turn in action[3:6]])
        gripper = 1.0 if action[6] > 0.5 else -1.0
        command = np.concatenate([action[:3], np.asarray(axis) * angle, [gripper]])
        self.observation, _, solved, _, _ = self.env.step(command)
        return bool(solved)

    def frame(self):
        """uint8 [480, 640, 3]."""
        return np.asarray(self.observation["image"][CAMERA]["rgb"])[..., :3].astype(np.uint8)

    def state(self):
        """[6]: hand position in meters; roll, pitch, yaw against Bridge's hand that points down."""
        pose = np.asarray(self.observation["agent"]["eef_pos"], np.float64)
        return np.concatenate([pose[:3], mat2euler(quat2mat(pose[3:7]) @ BRIDGE_HAND.T)])

    def next_goal(self):
        return None

    def close(self):
        if self.env is not None:
            self.env.close()
        self.env = None
