"""Two robots that are not the demonstrations' Sawyer: Fetch and Franka Panda, posed by inverse
kinematics.

Their models come from the wheel of gymnasium-robotics (MIT; Fetch: adapted by OpenAI from Fetch
Robotics' BSD model; Panda: Apache-2.0, V. Kumar). Only images rendered from them are shipped. Build
time only.
"""

# mujoco is built in C++ and has no stubs; the simulators are an optional extra as well.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emt_core.errors import EmtError

if TYPE_CHECKING:
    import mujoco


@dataclass(frozen=True, kw_only=True)
class SimRobot:
    """How one robot is put behind the table (top at z = 0, the robot at x < 0.2 looking along +x)
    and moved."""

    name: str
    compiler: str
    head: str
    """XML of the <mujoco> level (assets, defaults)."""
    body: str
    """XML inside <worldbody>."""
    joints: tuple[str, ...]
    rest: tuple[float, ...]
    """Start of the inverse kinematics, radians: gripper down, over the table."""
    placed: tuple[tuple[str, float], ...]
    """Joints that only place the robot, with their values."""
    fingers: tuple[str, ...]
    finger_range: float
    """Opening of one finger in metres."""
    site: str
    axis: int
    """Which axis of the site runs along the fingers."""


def _assets() -> Path:
    spec = find_spec("gymnasium_robotics")
    if spec is None or not spec.submodule_search_locations:
        raise EmtError(
            "The robots of the demo's pool are not installed",
            remedy="pip install gymnasium-robotics",
        )
    return Path(spec.submodule_search_locations[0]) / "envs" / "assets"


def fetch() -> SimRobot:
    root = _assets()
    return SimRobot(
        name="fetch",
        compiler=f'<compiler angle="radian" meshdir="{root}/stls/fetch" '
        f'texturedir="{root}/textures"/>',
        head=f'<include file="{root}/fetch/shared.xml"/>',
        body=f'<include file="{root}/fetch/robot.xml"/>',
        joints=tuple(
            f"robot0:{j}_joint"
            for j in (
                "shoulder_pan",
                "shoulder_lift",
                "upperarm_roll",
                "elbow_flex",
                "forearm_roll",
                "wrist_flex",
                "wrist_roll",
            )
        ),
        rest=(0.0, -0.5, 0.0, 1.2, 0.0, 0.87, 0.0),
        placed=(
            ("robot0:slide0", -0.55),
            ("robot0:slide1", -0.27),
            ("robot0:slide2", -0.50),
            ("robot0:torso_lift_joint", 0.2),
        ),
        fingers=("robot0:r_gripper_finger_joint", "robot0:l_gripper_finger_joint"),
        finger_range=0.05,
        site="robot0:grip",
        axis=0,
    )


def panda() -> SimRobot:
    root = _assets() / "kitchen_franka" / "franka_assets"
    return SimRobot(
        name="panda",
        compiler=f'<compiler angle="radian" meshdir="{root}/meshes"/>',
        head=f'<include file="{root}/assets.xml"/>',
        body=f'<body name="panda_base" pos="-0.1 0 0"><include file="{root}/chain.xml"/></body>',
        joints=tuple(f"robot:panda0_joint{i}" for i in range(1, 8)),
        rest=(0.0, 0.1, 0.0, -2.1, 0.0, 0.7, 0.0),
        placed=(),
        fingers=("robot:panda0_finger_joint1", "robot:panda0_finger_joint2"),
        finger_range=0.04,
        site="end_effector",
        axis=2,
    )


ROBOTS = {"fetch": fetch, "panda": panda}


def pose_robot(
    robot: SimRobot, model: mujoco.MjModel, data: mujoco.MjData, target: np.ndarray, opening: float
) -> float:
    """Put the point between the fingers at `target` (metres), gripper pointing down; each finger at
    `opening` metres.

    Damped least squares on position and finger axis. Returns the position error that is left, in
    metres.
    """
    import mujoco

    for name, value in robot.placed:
        data.joint(name).qpos[0] = value
    for name, value in zip(robot.joints, robot.rest, strict=True):
        data.joint(name).qpos[0] = value
    for name in robot.fingers:
        data.joint(name).qpos[0] = np.clip(opening, 0.0, robot.finger_range)
    site = model.site(robot.site).id
    columns = [model.jnt_dofadr[model.joint(name).id] for name in robot.joints]
    linear = np.zeros((3, model.nv))
    angular = np.zeros((3, model.nv))
    down = np.array([0.0, 0.0, -1.0])
    for _ in range(80):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        axis = data.site_xmat[site].reshape(3, 3)[:, robot.axis]
        error = np.concatenate([target - data.site_xpos[site], np.cross(axis, down)])
        if np.linalg.norm(error[:3]) < 1e-3 and axis @ down > 0.999:
            break
        mujoco.mj_jacSite(model, data, linear, angular, site)
        jacobian = np.vstack([linear[:, columns], angular[:, columns]])
        step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-3 * np.eye(6), error)
        for name, change in zip(robot.joints, np.clip(step, -0.2, 0.2), strict=True):
            joint = model.joint(name)
            value = data.joint(name).qpos[0] + change
            data.joint(name).qpos[0] = np.clip(value, *joint.range) if joint.limited[0] else value
    mujoco.mj_forward(model, data)
    return float(np.linalg.norm(target - data.site_xpos[site]))
