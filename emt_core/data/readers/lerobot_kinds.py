"""Storage of robot data that a reader does not read, told by name with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError

RLDS = "an RLDS set"
OLD = "lerobot 0.3.3 has the converter, convert_dataset_v1_to_v2.py; what it writes is read"


def not_lerobot(root: Path) -> EmtError:
    """The error for a place without meta/info.json: what it is instead, where that can be told."""
    if other := other_kind(root):
        what, remedy = other
        return EmtError(f"this is {what}, no LeRobot v2 or v3 set", where=root, remedy=remedy)
    return EmtError(
        "this is no LeRobot folder: meta/info.json is missing",
        where=root,
        remedy="`path` is the folder that holds `meta`, `data` and `videos`",
    )


def other_kind(root: Path) -> tuple[str, str] | None:
    """(what a place of robot data is by the names of its files, the remedy); None: not told."""
    for what, remedy, marks in KINDS:
        if any(root.match(mark) or any(root.glob(mark)) for mark in marks):
            return what, remedy
    return None


KINDS = (
    ("a LeRobot set", "read it with `format: lerobot`", ("meta/info.json",)),
    ("a LeRobot v1 set", OLD, ("meta_data/info.json", "meta_data/*.safetensors")),
    (
        "a zarr store",
        "write it as a LeRobot set with lerobot's LeRobotDataset.create and add_frame",
        ("*.zarr", "*.zarr.zip", "*.zarr.tar", ".zgroup", "zarr.json"),
    ),
    (
        "a folder of `save_to_disk` with images in arrow, as LeRobot v1 had",
        OLD,
        ("state.json", "dataset_dict.json", "train/state.json"),
    ),
    ("HDF5", "read it with `format: hdf5`", ("*.hdf5", "*.h5")),
    (RLDS, "read it with `format: rlds`", ("features.json", "*.tfrecord*")),
    ("a rosbag", "convert it to LeRobot or HDF5", ("*.bag", "*.mcap", "*.db3")),
)
"""What it is, what to do, and names of files that tell it; the first that fits."""


def is_depth(feature: Mapping[str, Any]) -> bool:
    """Whether a feature is a depth map, by LeRobot's marks of then and now."""
    marks = [feature.get("info"), feature.get("video_info")]
    return feature.get("dtype") == "depth" or any(
        mark.get("is_depth_map") or mark.get("video.is_depth_map")
        for mark in marks
        if isinstance(mark, Mapping)
    )


def no_camera(camera: str, features: Mapping[str, Any], known: list[str], root: Path) -> EmtError:
    """The error for a name that is no camera: nothing, a depth map, or another feature."""
    feature = features.get(camera)
    what = f"there is no camera {camera!r}"
    if isinstance(feature, Mapping):
        kind = "a depth map" if is_depth(feature) else f"{feature.get('dtype')}"
        shape = "" if is_depth(feature) else f" of shape {feature.get('shape')}"
        what = f"{camera!r} is {kind}{shape}, no color images"
    return EmtError(what, where=root, remedy=f"its cameras are: {', '.join(known) or 'none'}")
