"""Our own table-top scenes: primitive objects, printed signs, Fetch, Panda or no robot, varied
light and cameras.

A scene is posed, never simulated: whether the gripper touches or holds something is known because
we put it there.
"""

# mujoco is built in C++ and has no stubs; the simulators are an optional extra as well.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from demo.drawing import pick
from demo.lettering import letter
from demo.sim_robots import ROBOTS, SimRobot, pose_robot
from demo.sim_view import Sign, Thing, View
from demo.tabletop_objects import KINDS
from demo.tabletop_scene import Placed, Plate, scene_xml
from demo.words import word
from emt_core.evaluation.recording.mujoco_scene import (
    CameraPose,
    SceneRenderer,
    point_camera,
    project,
    use_headless_gl,
)
from emt_core.evaluation.recording.tasks import IMAGE_SIZE

MIN_PIXELS = 34
"""Pixels of an object that must be visible before it may be named; scenes where one object has
fewer are redrawn, so that counting what is visible equals counting what is there."""

_SUPERSAMPLE = 2
"""Images are rendered at this multiple and averaged: the demonstrations are not (another renderer's
look)."""

_COLORS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "grey",
)
_SURFACES = ("sign", "box", "card")


def tabletop_views(rng: np.random.Generator, *, views: int = 2) -> Iterator[View]:
    """Views of one random scene; the robot and the camera move between them. May yield fewer where
    objects hide."""
    robot_name = pick(rng, ("fetch", "panda", "panda", "fetch", None))
    robot = ROBOTS[robot_name]() if robot_name else None
    azimuth = rng.uniform(-75, 75)
    plate = _plate(rng, azimuth) if rng.random() < 0.6 else None
    objects = _objects(rng, plate)
    for _ in range(views):
        view = _render(rng, robot, objects, plate, azimuth)
        if view is not None:
            yield view


def _objects(rng: np.random.Generator, plate: Plate | None) -> list[Placed]:
    wanted = int(rng.integers(2, 6 if plate is None else 4))
    kinds = [pick(rng, KINDS) for _ in range(wanted)]
    if (
        wanted > 2 and rng.random() < 0.5
    ):  # counting "how many cubes" needs scenes with more than one
        kinds[1] = kinds[0]
    found: list[Placed] = []
    for kind in kinds:
        scale = 0.05 * rng.uniform(1.1, 1.6)
        taken = {o.color for o in found if o.kind is kind}
        color = pick(rng, [c for c in _COLORS if c not in taken])
        for _ in range(50):
            x = rng.uniform(0.36, 0.70)
            y = rng.uniform(-0.21, 0.21)
            gap = [
                np.hypot(x - o.x, y - o.y) - (o.kind.radius * o.scale + kind.radius * scale)
                for o in found
            ]
            if plate is not None:
                gap.append(
                    np.hypot(*(np.array([x, y]) - plate.center[:2]))
                    - kind.radius * scale
                    - plate.half[0]
                )
            if min(gap, default=1.0) > 0.02:
                name = f"{color} {kind.noun}"
                found.append(
                    Placed(
                        kind=kind,
                        color=color,
                        scale=scale,
                        x=x,
                        y=y,
                        yaw=rng.uniform(0, 360),
                        name=name,
                    )
                )
                break
    return found


def _plate(rng: np.random.Generator, azimuth: float) -> Plate:
    surface = pick(rng, _SURFACES)
    text = word(rng, "train", low=3, high=5)
    color = pick(rng, ("white", "yellow", "white", "orange", "blue", "black", "green"))
    ink = (20, 20, 24) if color in ("white", "yellow", "orange") else (245, 245, 240)
    # The face looks at the camera; right is what the camera sees as right.
    front = np.array([np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth)), 0.0])
    right = np.array([-front[1], front[0], 0.0])
    half = (0.105 + 0.012 * len(text) / 3, 0.048)
    spot = (
        np.array([0.53, 0.0, 0.0])
        - front * rng.uniform(0.02, 0.14)
        + right * rng.uniform(-0.07, 0.07)
    )
    if surface == "card":
        center = spot + np.array([0, 0, 0.006]) + front * 0.06
        up = -front
    else:
        center = spot + np.array([0, 0, half[1] + 0.03])
        up = np.array([0.0, 0.0, 1.0])
    return Plate(
        surface=surface,
        text=text,
        color=color,
        ink=ink,
        center=center,
        right=right,
        up=up,
        half=half,
    )


def _render(
    rng: np.random.Generator,
    robot: SimRobot | None,
    objects: list[Placed],
    plate: Plate | None,
    azimuth: float,
) -> View | None:
    use_headless_gl()
    import mujoco

    xml, table_color = scene_xml(rng, robot, objects, plate)
    with tempfile.TemporaryDirectory() as folder:  # includes inside included files need a real path
        path = Path(folder) / "scene.xml"
        path.write_text(xml)
        model = mujoco.MjModel.from_xml_path(str(path))
    for geom in range(model.ngeom):  # the green cross of Fetch's mocap body
        if "mocap" in model.body(model.geom_bodyid[geom]).name:
            model.geom_rgba[geom, 3] = 0.0
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    state = _pose(rng, robot, model, data, objects) if robot else {}
    with SceneRenderer(model, size=IMAGE_SIZE * _SUPERSAMPLE) as renderer:
        for _ in range(5):
            camera_id = point_camera(model, "view", _camera(rng, azimuth, plate is not None))
            mujoco.mj_forward(model, data)
            ids = renderer.geoms(data, camera_id)
            view = _view(model, data, camera_id, ids, objects, robot, state)
            if view is None:
                continue
            pixels = renderer.rgb(data, camera_id)
            sign = None
            if plate is not None:
                plate_id = model.geom("plate").id
                corners = project(plate.corners(), data, model, camera_id)[:, :2]
                lettered = letter(rng, pixels, ids == plate_id, corners, plate.text, plate.ink)
                if lettered is None:
                    continue
                pixels = lettered
                sign = Sign(surface=plate.surface, text=plate.text)
            size = IMAGE_SIZE
            small = (
                pixels.reshape(size, _SUPERSAMPLE, size, _SUPERSAMPLE, 3)
                .mean((1, 3))
                .round()
                .astype(np.uint8)
            )
            name = robot.name if robot else "none"
            color = None if table_color == "wood" else table_color
            meta = {
                "robot_model": name,
                "table_colour": color,
                "things": [t.name for t in view.things],
            }
            return replace(view, image=small, sign=sign, meta=meta)
    return None


def _camera(rng: np.random.Generator, azimuth: float, near: bool) -> CameraPose:
    a = np.radians(azimuth + rng.uniform(-8, 8))
    e = np.radians(rng.uniform(32, 50) if near else rng.uniform(28, 62))
    distance = rng.uniform(0.70, 0.86) if near else rng.uniform(0.62, 0.9)
    target = np.array([0.52, 0.0, 0.04]) + rng.uniform(-0.04, 0.04, 3)
    back = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    x, y, z = (float(v) for v in target + distance * back)
    tx, ty, tz = (float(v) for v in target)
    return CameraPose(position=(x, y, z), target=(tx, ty, tz), fovy=float(rng.uniform(40, 48)))


def _pose(rng: np.random.Generator, robot: SimRobot, model, data, objects: list[Placed]) -> dict:
    """Put the gripper somewhere meaningful. Returns what is then true: opening, held and touched
    object."""
    import mujoco

    full = robot.finger_range
    grips = {n: o.kind.grip * o.scale for n, o in enumerate(objects) if o.kind.grip}
    able = [n for n, grip in grips.items() if grip < 0.9 * full]
    mode = (
        pick(rng, ("free", "above", "above", "hold", "grasp"))
        if able
        else pick(rng, ("free", "free", "above"))
    )
    opening = full * (0.95 if rng.random() < 0.6 else 0.05)
    held = None
    touched = None
    if mode == "free":
        target = np.array(
            [rng.uniform(0.38, 0.66), rng.uniform(-0.18, 0.18), rng.uniform(0.17, 0.28)]
        )
    elif mode == "above":
        o = pick(rng, objects)
        target = np.array([o.x, o.y, o.kind.height * o.scale + rng.uniform(0.08, 0.14)])
    else:
        n = pick(rng, able)
        o = objects[n]
        opening = grips[n]
        touched = o.name
        height = max(0.025, (o.kind.height - 0.35) * o.scale)
        target = np.array([o.x, o.y, height])
        if mode == "hold":
            held = o.name
            lift = rng.uniform(0.10, 0.18)
            target = np.array([rng.uniform(0.42, 0.64), rng.uniform(-0.15, 0.15), height + lift])
            data.joint(f"object{n}").qpos[:3] = target - (0, 0, height)
    error = pose_robot(robot, model, data, target, opening)
    mujoco.mj_forward(model, data)
    # Where the arm does not reach, the picture is still right but nothing about contact is known.
    known = error < 0.01
    return {
        "open": opening > 0.5 * full if mode in ("free", "above") else None,
        "held": held if known else None,
        "touched": touched if known else None,
        "known": known,
        "site": model.site(robot.site).id,
    }


def _view(
    model, data, camera_id: int, ids: np.ndarray, objects, robot: SimRobot | None, state: dict
) -> View | None:
    """Everything but the pixels, or None where an object is hidden or cut off."""
    low = ids[_SUPERSAMPLE // 2 :: _SUPERSAMPLE, _SUPERSAMPLE // 2 :: _SUPERSAMPLE]
    things = []
    masks = []
    grasps = []
    depths = []
    positions = []
    for n, o in enumerate(objects):
        names = {g: model.geom(g).name for g in range(model.ngeom)}
        geoms = frozenset(g for g, name in names.items() if name.startswith(f"object{n}_"))
        grip = frozenset(g for g in geoms if names[g].endswith("_grasp"))
        mask = np.isin(low, list(geoms))
        cut = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
        if mask.sum() < MIN_PIXELS or cut:
            return None
        grip_mask = np.isin(low, list(grip)) if grip else mask
        center = np.mean([data.geom_xpos[g] for g in geoms], axis=0)
        things.append(
            Thing(name=o.name, noun=o.kind.noun, color=o.color, geoms=geoms, grasp_geoms=grip)
        )
        masks.append(mask)
        grasps.append(grip_mask)
        positions.append(center)
        depths.append(float(project(center, data, model, camera_id)[0, 2]))
    gripper = None
    position = None
    if robot:
        position = data.site_xpos[state["site"]].copy()
        x, y, _ = project(position, data, model, camera_id)[0]
        fingers = {
            g
            for g in range(model.ngeom)
            if "finger" in model.body(model.geom_bodyid[g]).name
            and not model.geom(g).name.startswith("object")
        }
        if np.isin(low, list(fingers)).sum() >= 12 and 0.03 < x < 0.97 and 0.03 < y < 0.97:
            gripper = (float(x), float(y))
    return View(
        image=np.zeros((1, 1, 3), np.uint8),
        things=tuple(things),
        masks=tuple(masks),
        grasp_masks=tuple(grasps),
        depths=tuple(depths),
        positions=tuple(positions),
        free=low == model.geom("table").id,
        gripper=gripper,
        gripper_position=position,
        gripper_open=state.get("open"),
        holding=state.get("held"),
        touching=state.get("touched"),
        contact_known=bool(state.get("known")),
        robot="robot arm" if robot else None,
    )
