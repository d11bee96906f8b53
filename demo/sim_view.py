"""What a rendered scene is known to contain: the link between simulators and questions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from demo.layout_questions import Placed


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object of a scene that questions may name."""

    name: str
    """Unique in its scene: "red cube", "drawer"."""
    noun: str
    """What it is, for counting: "cube"."""
    color: str | None
    """Its one named colour, or None where it has several."""
    geoms: frozenset[int]
    grasp_geoms: frozenset[int] = frozenset()
    """The part to hold it by; empty where any part will do."""
    graspable: bool = True


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A word printed in the scene."""

    surface: str
    text: str


@dataclass(frozen=True, kw_only=True)
class View:
    """One image of a scene with everything questions need. Masks are (S, S) bool at image
    resolution."""

    image: np.ndarray
    """(S, S, 3) uint8."""
    things: tuple[Thing, ...]
    masks: tuple[np.ndarray, ...]
    """Visible pixels of each thing."""
    grasp_masks: tuple[np.ndarray, ...]
    depths: tuple[float, ...]
    """Distance of each thing's centre from the camera plane in metres."""
    positions: tuple[np.ndarray, ...]
    """Each thing's centre in metres, world frame."""
    free: np.ndarray
    """Visible pixels of the table surface."""
    gripper: tuple[float, float] | None
    """The point between the fingers as image fractions; None where it is out of view or hidden."""
    gripper_position: np.ndarray | None = None
    """The same point in metres, world frame."""
    gripper_open: bool | None = None
    holding: str | None = None
    """Name of the thing between the fingers, when it has been lifted."""
    touching: str | None = None
    """Name of the thing the fingers touch; None where they touch none or nobody knows."""
    contact_known: bool = False
    doing: tuple[str, ...] = ()
    """Ways to say what the robot is doing; empty where it is doing nothing in particular."""
    sign: Sign | None = None
    setting: str = "table"
    robot: str | None = None
    """Words for the robot, "robot arm"; None where there is none."""
    meta: dict = field(default_factory=dict)

    def placed(self) -> list[Placed]:
        """The things as points on themselves: the pixel farthest from each mask's border."""
        found = []
        for thing, mask in zip(self.things, self.masks, strict=True):
            x, y = interior_point(mask)
            found.append(Placed(name=thing.name, x=x, y=y))
        return found


def interior_point(mask: np.ndarray) -> tuple[float, float]:
    """Centre of the pixel of a non-empty (S, S) mask that is farthest from its border, as image
    fractions (x, y)."""
    distance = clearance(mask)
    # Ties go to the pixel nearest the mask's centroid, or long thin parts would answer with one of
    # their ends.
    ys, xs = np.nonzero(distance >= distance.max() - 0.5)
    cy, cx = (axis.mean() for axis in np.nonzero(mask))
    best = int(np.argmin((ys - cy) ** 2 + (xs - cx) ** 2))
    return (float(xs[best]) + 0.5) / mask.shape[1], (float(ys[best]) + 0.5) / mask.shape[0]


def clearance(mask: np.ndarray) -> np.ndarray:
    """Distance in pixels of each pixel of `mask` to the nearest pixel outside it or to the image
    border."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]
