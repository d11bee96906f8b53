"""Meta-World in a worker; renders as demonstrations are recorded (a test compares pixels)."""

# The simulator lies in another interpreter: there is nothing here to check types against.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# pyright: reportCallIssue=false

from __future__ import annotations

import importlib.metadata

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
from metaworld.policies import ENV_POLICY_MAP

MODEL_CAMERA = "corner2"


class Simulator:
    """settings: `camera` {position, target, fovy}, `size` in pixels, `action_repeat` of 12.5 ms.

    episode: `task` (`push-v3`), `seed` of the layout, `show_goal`, `instruction`.
    """

    action_dim = 4

    def __init__(self, settings):
        self.settings = settings
        self.env = self.renderer = self.policy = None
        mujoco.GLContext(
            16, 16
        ).free()  # no off-screen GL: said now, not in the middle of an episode

    def versions(self):
        return {"metaworld": importlib.metadata.version("metaworld"), "mujoco": mujoco.__version__}

    def begin(self, episode):
        """Make a new environment: a reset of an old one draws another layout than the seed's."""
        self.close()
        make = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[episode["task"] + "-goal-observable"]
        self.env = make(seed=episode["seed"])
        self.observation = self.env.reset()[0]
        self.expert_of = episode["task"]
        self.camera = self._place_camera(self.settings["camera"])
        if not episode["show_goal"]:
            for site in range(self.env.model.nsite):
                if "goal" in self.env.model.site(site).name.lower():
                    self.env.model.site_rgba[site, 3] = 0.0
        # some tasks set joints after their last forward pass: the first frame would show the state
        # before
        mujoco.mj_forward(self.env.model, self.env.data)
        return episode["instruction"]

    def step(self, action):
        """Whether the task is solved. action: float [4] in [-1, 1]: hand x y z, gripper closing."""
        action = np.clip(np.asarray(action, np.float32), -1.0, 1.0)
        solved = False
        for _ in range(self.settings["action_repeat"]):
            self.observation, _, _, _, info = self.env.step(action)
            solved = solved or info["success"] > 0.5
        return solved

    def frame(self):
        """uint8 [size, size, 3]."""
        if self.renderer is None:
            self.renderer = self._make_renderer()
        self.renderer.update_scene(self.env.data, self.camera)
        return self.renderer.render().copy()

    def state(self):
        """[4]: hand position in meters, gripper opening in [0, 1], as demonstrations have it."""
        return self.observation[:4]

    def next_goal(self):
        return None

    def expert(self):
        """The task's scripted expert, which sees object positions. For rehearsals only."""
        if self.policy is None:
            self.policy = ENV_POLICY_MAP[self.expert_of]()
        return np.clip(self.policy.get_action(self.observation), -1.0, 1.0)

    def close(self):
        if self.renderer is not None:
            self.renderer.close()
        if self.env is not None:
            self.env.close()
        self.env = self.renderer = self.policy = None

    def _place_camera(self, pose):
        """Place the camera upright, looking at a point, as recording/mujoco_scene.py does."""
        model = self.env.model
        camera = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, MODEL_CAMERA)
        back = np.subtract(pose["position"], pose["target"])
        back /= np.linalg.norm(back)
        right = np.cross((0.0, 0.0, 1.0), back)
        right /= np.linalg.norm(right)
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, np.stack([right, np.cross(back, right), back], axis=1).ravel())
        model.cam_pos[camera] = pose["position"]
        model.cam_quat[camera] = quat
        model.cam_fovy[camera] = pose["fovy"]
        return camera

    def _make_renderer(self):
        """Switch shadows, reflections and multisampling off, as recording does."""
        model = self.env.model
        size = self.settings["size"]
        model.vis.quality.shadowsize = 0
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, size)
        model.vis.global_.offheight = max(model.vis.global_.offheight, size)
        renderer = mujoco.Renderer(model, size, size)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = False
        return renderer
