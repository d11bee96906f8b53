"""Cameras, pixels and exact ground truth of a MuJoCo scene.

Shadows, reflections and multisampling are off: software rendering is ten times faster without them,
and multisampled segmentation has mixed ids along edges. Whoever renders for evaluation must use the
same settings.

Set MUJOCO_GL (`egl` or `osmesa`) before the first import of mujoco; `use_headless_gl` does it.
"""

# mujoco is built in C++ and has no stubs; the simulators are an optional extra as well.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.errors import EmtError

if TYPE_CHECKING:
    import mujoco

Vec3 = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class CameraPose:
    """A pinhole camera that looks at a point, upright (world z is up): nothing needs a flip."""

    position: Vec3
    """Metres, world frame."""
    target: Vec3
    """The point in the centre of the image, metres."""
    fovy: float
    """Vertical field of view in degrees."""


def use_headless_gl() -> None:
    """Choose off-screen GL before mujoco is imported: EGL, unless the environment names another.

    glfw, which gymnasium imports for windows, would ask for its library's version in processes of
    its own, whose tracebacks outlive a worker that is killed meanwhile. Named, it is just loaded.
    """
    os.environ.setdefault("MUJOCO_GL", "egl")
    glfw = find_spec("glfw")
    if glfw is not None and glfw.submodule_search_locations:
        library = Path(glfw.submodule_search_locations[0]) / "x11" / "libglfw.so"
        if library.exists():
            os.environ.setdefault("PYGLFW_LIBRARY", str(library))


def point_camera(model: mujoco.MjModel, camera: int | str, pose: CameraPose) -> int:
    """Move a fixed camera to `pose`. Returns its id. Call `mj_forward` before rendering."""
    import mujoco

    camera_id = (
        mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if isinstance(camera, str)
        else camera
    )
    if not 0 <= camera_id < model.ncam:
        raise EmtError(
            f"The scene has no camera {camera!r}", remedy="name one of the model's cameras"
        )
    back = np.subtract(pose.position, pose.target)
    back /= np.linalg.norm(back)  # a MuJoCo camera looks along its own -z
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.stack([right, np.cross(back, right), back], axis=1).ravel())
    model.cam_pos[camera_id] = pose.position
    model.cam_quat[camera_id] = quat
    model.cam_fovy[camera_id] = pose.fovy
    return camera_id


def project(points: Any, data: mujoco.MjData, model: mujoco.MjModel, camera_id: int) -> np.ndarray:
    """World points (N, 3) in metres -> (N, 3) float64: x and y as fractions of a square image
    (origin top left; a point outside the image lies outside [0, 1]) and the depth along the view
    axis in metres."""
    local = (np.atleast_2d(points) - data.cam_xpos[camera_id]) @ data.cam_xmat[camera_id].reshape(
        3, 3
    )
    depth = -local[:, 2]
    focal = 0.5 / np.tan(np.radians(model.cam_fovy[camera_id]) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack(
            [0.5 + focal * local[:, 0] / depth, 0.5 - focal * local[:, 1] / depth, depth], axis=1
        )


class SceneRenderer:
    """Renders one camera of one model as pixels and as geom ids.

    >>> with SceneRenderer(model, size=112) as renderer:
    ...     pixels, geoms = renderer.rgb(data, camera_id), renderer.geoms(data, camera_id)
    """

    def __init__(self, model: mujoco.MjModel, *, size: int) -> None:
        """size: image side in pixels. Raises EmtError where the machine has no off-screen GL."""
        import mujoco

        model.vis.quality.shadowsize = 0
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, size)
        model.vis.global_.offheight = max(model.vis.global_.offheight, size)
        try:
            self._renderer = mujoco.Renderer(model, size, size)
        except Exception as error:  # the GL loaders raise whatever their platform raises
            raise EmtError(
                f"MuJoCo cannot render off screen ({error})",
                where=f"MUJOCO_GL={os.environ.get('MUJOCO_GL', '')}",
                remedy="install libegl1 and libegl-mesa0 (or libosmesa6 and set MUJOCO_GL=osmesa)",
            ) from error
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = False
        self._geom_type = int(mujoco.mjtObj.mjOBJ_GEOM)

    def rgb(self, data: mujoco.MjData, camera_id: int) -> np.ndarray:
        """(size, size, 3) uint8."""
        self._renderer.update_scene(data, camera_id)
        return self._renderer.render().copy()

    def geoms(self, data: mujoco.MjData, camera_id: int) -> np.ndarray:
        """(size, size) int32: the geom that each pixel shows, -1 for none (sky, sites)."""
        self._renderer.enable_segmentation_rendering()
        try:
            self._renderer.update_scene(data, camera_id)
            ids = self._renderer.render()
        finally:
            self._renderer.disable_segmentation_rendering()
        return np.where(ids[..., 1] == self._geom_type, ids[..., 0], -1).astype(np.int32)

    def close(self) -> None:
        self._renderer.close()

    def __enter__(self) -> SceneRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
