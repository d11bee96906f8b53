"""MuJoCo's XML of a table-top scene: table, lights, a printed surface, objects, and the robot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demo.drawing import COLORS, pick, shade
from demo.sim_robots import SimRobot
from demo.tabletop_objects import ObjectKind, mesh_xml


@dataclass(frozen=True, kw_only=True)
class Placed:
    kind: ObjectKind
    color: str
    scale: float
    x: float
    y: float
    yaw: float
    name: str


@dataclass(frozen=True, kw_only=True)
class Plate:
    """A printed surface: center of its face, half size in meters, axes in the world."""

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
        r = self.right * self.half[0]
        u = self.up * self.half[1]
        return np.stack(
            [self.center - r + u, self.center + r + u, self.center + r - u, self.center - r - u]
        )


def _rgba(rgb: tuple[int, int, int]) -> str:
    return " ".join(f"{c / 255:.3f}" for c in rgb) + " 1"


def _object_xml(rng: np.random.Generator, number: int, o: Placed) -> tuple[str, str]:
    meshes = []
    geoms = []
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
        f'<body name="object{number}" pos="{o.x:.4f} {o.y:.4f} 0" '
        f'euler="0 0 {np.radians(o.yaw):.4f}"><joint name="object{number}" type="free"/>'
        '<inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
        f"{''.join(geoms)}</body>"
    )
    return "".join(meshes), body


def scene_xml(
    rng: np.random.Generator, robot: SimRobot | None, objects: list[Placed], plate: Plate | None
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
        '<light directional="true" pos="0 0 3" '
        f'dir="{rng.uniform(-0.6, 0.6):.2f} {rng.uniform(-0.6, 0.6):.2f} -1" '
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
            f'<geom name="plate" type="box" pos="{" ".join(f"{v:.5f}" for v in middle)}" '
            f'xyaxes="{axes}" size="{size}" rgba="{color}"/>'
        )
        if plate.surface == "sign":
            foot = plate.center - np.array([0, 0, plate.half[1] + 0.015])
            extra += (
                '<geom type="cylinder" size="0.008 0.016" '
                f'pos="{foot[0]:.4f} {foot[1]:.4f} {foot[2]:.4f}" rgba=".5 .5 .5 1"/>'
            )
    meshes = "".join(m for m, _ in parts)
    bodies = "".join(b for _, b in parts)
    compiler = robot.compiler if robot else '<compiler angle="radian"/>'
    xml = f"""<mujoco>{robot.head if robot else ""}{compiler}
<visual><headlight ambient="{ambient} {ambient} {ambient}" diffuse=".25 .25 .25" specular="0 0 0"/>
<map znear="0.02"/></visual>
<asset><texture name="table" type="2d" builtin="{builtin}" rgb1="{rgb1}" rgb2="{rgb2}"
 width="64" height="64"/>
<texture name="sky" type="skybox" builtin="flat" rgb1="{sky}" rgb2="{sky}" width="32" height="32"/>
<material name="table" texture="table" texrepeat="{repeat}" specular="0" shininess="0"/>
{meshes}</asset>
<worldbody>{lights}<camera name="view" pos="1 0 1"/>
<geom name="ground" type="plane" size="6 6 1" pos="0 0 -0.6" rgba="{ground}"/>
<geom name="table" type="box" size="0.46 0.6 0.02" pos="0.56 0 -0.02" material="table"/>
{extra}{bodies}{robot.body if robot else ""}</worldbody></mujoco>"""
    return xml, table_color
