"""Objects of our own table-top scenes, from MuJoCo primitives and small meshes made here (no
outside assets)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Part:
    """One geom of an object, in units of the object's scale (about 5 cm), z = 0 on the table."""

    type: str
    size: tuple[float, ...]
    pos: tuple[float, float, float]
    euler: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mesh: str | None = None
    color: str | None = None
    """A fixed colour (name in drawing.COLOURS); None for the object's own."""
    grasp: bool = False
    """The part to hold the object by."""


@dataclass(frozen=True, kw_only=True)
class ObjectKind:
    """A kind of object: its noun, its parts and the circle it needs on the table."""

    noun: str
    parts: tuple[Part, ...]
    radius: float
    height: float
    """Top of the object in units of its scale."""
    grip: float | None = None
    """Half width between closed fingers in units of the scale; None where our two-finger grippers
    cannot hold it upright from above."""


def _box(half: tuple[float, float, float], pos: tuple[float, float, float], **kw) -> Part:
    return Part(type="box", size=half, pos=pos, **kw)


def _rod(radius: float, half: float, pos: tuple[float, float, float], **kw) -> Part:
    return Part(type="cylinder", size=(radius, half), pos=pos, **kw)


_FLAT = (0.0, 90.0, 0.0)  # a rod along x

KINDS: tuple[ObjectKind, ...] = (
    ObjectKind(
        noun="cube", radius=0.75, height=1.0, grip=0.5, parts=(_box((0.5, 0.5, 0.5), (0, 0, 0.5)),)
    ),
    ObjectKind(
        noun="ball",
        radius=0.6,
        height=1.1,
        grip=0.55,
        parts=(Part(type="sphere", size=(0.55,), pos=(0, 0, 0.55)),),
    ),
    ObjectKind(
        noun="cylinder", radius=0.5, height=1.4, grip=0.42, parts=(_rod(0.42, 0.7, (0, 0, 0.7)),)
    ),
    ObjectKind(
        noun="cone",
        radius=0.6,
        height=1.3,
        parts=(Part(type="mesh", size=(), pos=(0, 0, 0), mesh="cone"),),
        grip=0.3,
    ),
    ObjectKind(
        noun="pyramid",
        radius=0.75,
        height=1.2,
        parts=(Part(type="mesh", size=(), pos=(0, 0, 0), mesh="pyramid"),),
        grip=0.3,
    ),
    ObjectKind(
        noun="star",
        radius=0.8,
        height=0.4,
        parts=(Part(type="mesh", size=(), pos=(0, 0, 0), mesh="star"),),
    ),
    ObjectKind(
        noun="ring",
        radius=0.85,
        height=0.4,
        parts=(Part(type="mesh", size=(), pos=(0, 0, 0), mesh="ring"),),
    ),
    ObjectKind(
        noun="bottle",
        radius=0.45,
        height=1.9,
        grip=0.17,
        parts=(
            _rod(0.38, 0.6, (0, 0, 0.6)),
            _rod(0.16, 0.28, (0, 0, 1.45), grasp=True),
            _rod(0.2, 0.09, (0, 0, 1.8), color="white"),
        ),
    ),
    ObjectKind(
        noun="mug",
        radius=0.85,
        height=1.0,
        parts=(
            _rod(0.48, 0.5, (0, 0, 0.5)),
            _rod(0.38, 0.02, (0, 0, 1.0), color="black"),
            _box((0.18, 0.08, 0.07), (0.62, 0, 0.78), grasp=True),
            _box((0.18, 0.08, 0.07), (0.62, 0, 0.24), grasp=True),
            _box((0.07, 0.08, 0.34), (0.8, 0, 0.51), grasp=True),
        ),
    ),
    ObjectKind(
        noun="pan",
        radius=1.35,
        height=0.35,
        parts=(
            _rod(0.72, 0.14, (0, 0, 0.14)),
            _rod(0.6, 0.02, (0, 0, 0.28), color="black"),
            _box((0.5, 0.1, 0.07), (1.15, 0, 0.2), grasp=True),
        ),
    ),
    ObjectKind(
        noun="hammer",
        radius=1.1,
        height=0.5,
        parts=(
            _rod(0.11, 0.85, (0.2, 0, 0.22), euler=_FLAT, color="brown", grasp=True),
            _box((0.2, 0.5, 0.22), (-0.75, 0, 0.22)),
        ),
    ),
    ObjectKind(
        noun="dumbbell",
        radius=1.0,
        height=0.7,
        parts=(
            Part(type="sphere", size=(0.36,), pos=(-0.65, 0, 0.36)),
            Part(type="sphere", size=(0.36,), pos=(0.65, 0, 0.36)),
            _rod(0.12, 0.5, (0, 0, 0.36), euler=_FLAT, color="grey", grasp=True),
        ),
    ),
    ObjectKind(
        noun="book",
        radius=1.0,
        height=0.3,
        parts=(
            _box((0.75, 0.55, 0.03), (0, 0, 0.03)),
            _box((0.71, 0.51, 0.09), (0.02, 0, 0.15), color="white"),
            _box((0.75, 0.55, 0.03), (0, 0, 0.27)),
        ),
    ),
    ObjectKind(
        noun="arch",
        radius=0.95,
        height=1.2,
        parts=(
            _box((0.18, 0.3, 0.42), (-0.6, 0, 0.42)),
            _box((0.18, 0.3, 0.42), (0.6, 0, 0.42)),
            _box((0.8, 0.3, 0.16), (0, 0, 1.0), grasp=True),
        ),
        grip=0.3,
    ),
    ObjectKind(
        noun="tray",
        radius=1.35,
        height=0.4,
        parts=(
            _box((0.95, 0.75, 0.04), (0, 0, 0.04)),
            _box((0.95, 0.05, 0.16), (0, 0.75, 0.16)),
            _box((0.95, 0.05, 0.16), (0, -0.75, 0.16)),
            _box((0.05, 0.75, 0.16), (0.95, 0, 0.16)),
            _box((0.05, 0.75, 0.16), (-0.95, 0, 0.16)),
        ),
    ),
)


def _fan(outline: np.ndarray, height: float) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """A prism over a star-shaped outline (N, 2): vertices and outward triangles."""
    n = len(outline)
    low = np.c_[outline, np.zeros(n)]
    vertices = np.vstack([low, low + np.array((0, 0, height)), [(0, 0, 0), (0, 0, height)]])
    faces = []
    for i in range(n):
        j = (i + 1) % n
        faces += [(i, j, n + j), (i, n + j, n + i), (j, i, 2 * n), (n + i, n + j, 2 * n + 1)]
    return vertices, faces


def _star() -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 0.8, 0.36)
    return _fan(np.c_[radii * np.cos(angles), radii * np.sin(angles)], 0.36)


def _pointed(
    sides: int, radius: float, height: float
) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    angles = np.arange(sides) * 2 * np.pi / sides + np.pi / 4
    base = np.c_[radius * np.cos(angles), radius * np.sin(angles), np.zeros(sides)]
    vertices = np.vstack([base, [(0, 0, 0), (0, 0, height)]])
    faces = []
    for i in range(sides):
        j = (i + 1) % sides
        faces += [(i, j, sides + 1), (j, i, sides)]
    return vertices, faces


def _torus() -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    big = 24
    small = 10
    u, v = np.meshgrid(
        np.arange(big) * 2 * np.pi / big, np.arange(small) * 2 * np.pi / small, indexing="ij"
    )
    around = 0.6 + 0.2 * np.cos(v)
    vertices = np.stack(
        [around * np.cos(u), around * np.sin(u), 0.2 + 0.2 * np.sin(v)], -1
    ).reshape(-1, 3)
    faces = []
    for i in range(big):
        for j in range(small):
            a = i * small + j
            b = ((i + 1) % big) * small + j
            c = ((i + 1) % big) * small + (j + 1) % small
            d = i * small + (j + 1) % small
            faces += [(a, b, c), (a, c, d)]
    return vertices, faces


_MESHES: dict[str, Callable[[], tuple[np.ndarray, list[tuple[int, int, int]]]]] = {
    "star": _star,
    "cone": lambda: _pointed(24, 0.55, 1.3),
    "pyramid": lambda: _pointed(4, 0.75, 1.2),
    "ring": _torus,
}


def mesh_xml(mesh: str, name: str, scale: float) -> str:
    """A MuJoCo <mesh> element; `inertia="shell"` because a ring encloses no simple volume."""
    vertices, faces = _MESHES[mesh]()
    # Small triangles would share normals across edges: a smoothed star looks like a blob.
    numbers = " ".join(f"{x:.5f}" for x in (vertices * scale).ravel())
    triangles = " ".join(str(i) for face in faces for i in face)
    smooth = "true" if mesh == "ring" else "false"
    return (
        f'<mesh name="{name}" vertex="{numbers}" face="{triangles}" inertia="shell" '
        f'smoothnormal="{smooth}"/>'
    )
