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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from demo.drawing import COLORS, pick, shade
from demo.lettering import letter
from demo.sim_robots import ROBOTS, SimRobot, pose_robot
from demo.sim_view import Sign, Thing, View
from demo.tabletop_objects import KINDS, ObjectKind, mesh_xml
from demo.words import word
from emt_core.evaluation.recording.mujoco_scene import (
    CameraPose,
    SceneRenderer,
    point_camera,
    project,
    use_headless_gl,
)
from emt_core.evaluation.recording.tasks import IMAGE_SIZE

# : Pixels of an object that must be visible before it may be named; scenes where one object has
# fewer are redrawn, so
#: that counting what is visible equals counting what is there.
MIN_PIXELS = 34
# : Images are rendered at this multiple and averaged: the demonstrations are not (another
# renderer's look).
_SUPERSAMPLE = 2
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


@dataclass(frozen=True, kw_only=True)
class _Placed:
    kind: ObjectKind
    color: str
    scale: float
    x: float
    y: float
    yaw: float
    name: str


@dataclass(frozen=True, kw_only=True)
class _Plate:
    """A printed surface: the centre of its face, its half size in metres and its axes in the world."""

    surface: str
    text: str
    color: str
    ink: tuple[int, int, int]
    center: np.ndarray
    right: np.ndarray
    up: np.ndarray
    half: tuple[float, float]

    def corners(self) -> np.ndarray:
        """(4, 3): top left, top right, bottom right, bottom left as seen from the front."""
        r, u = self.right * self.half[0], self.up * self.half[1]
        return np.stack(
            [self.center - r + u, self.center + r + u, self.center + r - u, self.center - r - u]
        )


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


def _objects(rng: np.random.Generator, plate: _Plate | None) -> list[_Placed]:
    wanted = int(rng.integers(2, 6 if plate is None else 4))
    kinds = [pick(rng, KINDS) for _ in range(wanted)]
    if (
        wanted > 2 and rng.random() < 0.5
    ):  # counting "how many cubes" needs scenes with more than one
        kinds[1] = kinds[0]
    found: list[_Placed] = []
    for kind in kinds:
        scale = 0.05 * rng.uniform(1.1, 1.6)
        taken = {o.color for o in found if o.kind is kind}
        color = pick(rng, [c for c in _COLORS if c not in taken])
        for _ in range(50):
            x, y = rng.uniform(0.36, 0.70), rng.uniform(-0.21, 0.21)
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
                    _Placed(
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


def _plate(rng: np.random.Generator, azimuth: float) -> _Plate:
    surface, text = pick(rng, _SURFACES), word(rng, "train", low=3, high=5)
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
        center, up = spot + np.array([0, 0, 0.006]) + front * 0.06, -front
    else:
        center, up = spot + np.array([0, 0, half[1] + 0.03]), np.array([0.0, 0.0, 1.0])
    return _Plate(
        surface=surface,
        text=text,
        color=color,
        ink=ink,
        center=center,
        right=right,
        up=up,
        half=half,
    )


def _rgba(rgb: tuple[int, int, int]) -> str:
    return " ".join(f"{c / 255:.3f}" for c in rgb) + " 1"


def _object_xml(rng: np.random.Generator, number: int, o: _Placed) -> tuple[str, str]:
    meshes, geoms = [], []
    own = shade(rng, o.color, 8)
    for index, part in enumerate(o.kind.parts):
        color = shade(rng, part.color, 4) if part.color else own
        name = f"object{number}_{index}{'_grasp' if part.grasp else ''}"
        if part.mesh:
            meshes.append(mesh_xml(part.mesh, f"{name}_mesh", o.scale))
            shape = f'type="mesh" mesh="{name}_mesh"'
            # The compiler moves a mesh to its centre of mass; the geom frame follows, so pos 0
            # stays where it was.
            pos = (0.0, 0.0, 0.0)
        else:
            shape = f'type="{part.type}" size="{" ".join(f"{s * o.scale:.5f}" for s in part.size)}"'
            pos = part.pos
        # Degrees by hand: the compilers of the robots' models read angles as radians.
        euler = " ".join(f"{np.radians(a):.5f}" for a in part.euler)
        at = " ".join(f"{p * o.scale:.5f}" for p in pos)
        geoms.append(
            f'<geom name="{name}" {shape} pos="{at}" euler="{euler}" rgba="{_rgba(color)}"/>'
        )
    body = (
        f'<body name="object{number}" pos="{o.x:.4f} {o.y:.4f} 0" euler="0 0 {np.radians(o.yaw):.4f}">'
        f'<joint name="object{number}" type="free"/><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
        f"{''.join(geoms)}</body>"
    )
    return "".join(meshes), body


def _scene_xml(
    rng: np.random.Generator, robot: SimRobot | None, objects: list[_Placed], plate: _Plate | None
) -> tuple[str, str]:
    parts = [_object_xml(rng, n, o) for n, o in enumerate(objects)]
    taken = {o.color for o in objects}
    surfaces = [c for c in COLORS if c not in taken] + ([] if "brown" in taken else ["wood"] * 4)
    table_color = pick(rng, surfaces)
    wood = np.array([rng.integers(140, 205), rng.integers(95, 150), rng.integers(55, 100)])
    table = tuple(int(c) for c in wood) if table_color == "wood" else shade(rng, table_color, 18)
    mark = np.clip(np.asarray(table) * rng.uniform(0.82, 0.95), 0, 255).astype(int)
    rgb1, rgb2 = (" ".join(f"{c / 255:.3f}" for c in rgb) for rgb in (table, mark))
    builtin = pick(rng, ("flat", "gradient", "checker")) if table_color != "wood" else "checker"
    repeat = (
        "1 24" if table_color == "wood" else f"{int(rng.integers(2, 7))} {int(rng.integers(2, 7))}"
    )
    sky = " ".join(f"{c:.2f}" for c in rng.uniform(0.35, 0.9, 3))
    ground = _rgba(tuple(int(c) for c in rng.integers(50, 190, 3)))  # type: ignore[arg-type]
    lights = (
        f'<light directional="true" pos="0 0 3" dir="{rng.uniform(-0.6, 0.6):.2f} {rng.uniform(-0.6, 0.6):.2f} -1" '
        f'diffuse="{" ".join([f"{rng.uniform(0.55, 0.8):.2f}"] * 3)}" specular="0.1 0.1 0.1"/>'
    )
    ambient = f"{rng.uniform(0.3, 0.45):.2f}"
    extra = ""
    if plate is not None:
        depth = {"sign": 0.004, "box": 0.05, "card": 0.002}[plate.surface]
        normal = np.cross(plate.right, plate.up)
        middle = plate.center - normal * depth
        axes = " ".join(f"{v:.5f}" for v in (*plate.right, *plate.up))
        low = plate.center[2] if plate.surface == "box" else plate.half[1]
        size = f"{plate.half[0]:.4f} {low:.4f} {depth:.4f}"
        color = _rgba(shade(rng, plate.color, 4))
        extra = (
            f'<geom name="plate" type="box" pos="{" ".join(f"{v:.5f}" for v in middle)}" xyaxes="{axes}" '
            f'size="{size}" rgba="{color}"/>'
        )
        if plate.surface == "sign":
            foot = plate.center - np.array([0, 0, plate.half[1] + 0.015])
            extra += (
                f'<geom type="cylinder" size="0.008 0.016" pos="{foot[0]:.4f} {foot[1]:.4f} {foot[2]:.4f}" '
                'rgba=".5 .5 .5 1"/>'
            )
    meshes, bodies = "".join(m for m, _ in parts), "".join(b for _, b in parts)
    compiler = robot.compiler if robot else '<compiler angle="radian"/>'
    xml = f"""<mujoco>{robot.head if robot else ""}{compiler}
<visual><headlight ambient="{ambient} {ambient} {ambient}" diffuse=".25 .25 .25" specular="0 0 0"/>
<map znear="0.02"/></visual>
<asset><texture name="table" type="2d" builtin="{builtin}" rgb1="{rgb1}" rgb2="{rgb2}" width="64" height="64"/>
<texture name="sky" type="skybox" builtin="flat" rgb1="{sky}" rgb2="{sky}" width="32" height="32"/>
<material name="table" texture="table" texrepeat="{repeat}" specular="0" shininess="0"/>{meshes}</asset>
<worldbody>{lights}<camera name="view" pos="1 0 1"/>
<geom name="ground" type="plane" size="6 6 1" pos="0 0 -0.6" rgba="{ground}"/>
<geom name="table" type="box" size="0.46 0.6 0.02" pos="0.56 0 -0.02" material="table"/>
{extra}{bodies}{robot.body if robot else ""}</worldbody></mujoco>"""
    return xml, table_color


def _render(
    rng: np.random.Generator,
    robot: SimRobot | None,
    objects: list[_Placed],
    plate: _Plate | None,
    azimuth: float,
) -> View | None:
    use_headless_gl()
    import mujoco

    xml, table_color = _scene_xml(rng, robot, objects, plate)
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
                pixels, sign = lettered, Sign(surface=plate.surface, text=plate.text)
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
    a, e = (
        np.radians(azimuth + rng.uniform(-8, 8)),
        np.radians(rng.uniform(32, 50) if near else rng.uniform(28, 62)),
    )
    distance = rng.uniform(0.70, 0.86) if near else rng.uniform(0.62, 0.9)
    target = np.array([0.52, 0.0, 0.04]) + rng.uniform(-0.04, 0.04, 3)
    back = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    x, y, z = (float(v) for v in target + distance * back)
    tx, ty, tz = (float(v) for v in target)
    return CameraPose(position=(x, y, z), target=(tx, ty, tz), fovy=float(rng.uniform(40, 48)))


def _pose(rng: np.random.Generator, robot: SimRobot, model, data, objects: list[_Placed]) -> dict:
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
    opening, held, touched = full * (0.95 if rng.random() < 0.6 else 0.05), None, None
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
        opening, touched = grips[n], o.name
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
    things, masks, grasps, depths, positions = [], [], [], [], []
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
    gripper, position = None, None
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
