"""Storage that the LeRobot reader does not read: told by name, with what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from source_files import lerobot_folder

from emt_core.data.images.decode import ImageProblem, check_image, open_image
from emt_core.data.readers import locate, read
from emt_core.data.sample import Reject
from emt_core.errors import EmtError
from emt_core.recipe.sources import HDF5Source, LeRobotSource, RLDSSource, RobotSource

FRONT = "observation.images.front"


def source(**more) -> LeRobotSource:
    facts = {"format": "lerobot", "name": "arm", "role": "robot", "path": "set"}
    return LeRobotSource(**{**facts, "camera": FRONT, "frames_per_episode": 1, **more})


def other(model: type[HDF5Source | RLDSSource], **more) -> RobotSource:
    facts = {"name": "arm", "role": "robot", "path": "set", "camera": "image"}
    format = "hdf5" if model is HDF5Source else "rlds"
    return model.model_validate({"format": format, **facts, **more})


def error_of(config: RobotSource, base: Path) -> str:
    with pytest.raises(EmtError) as found:
        list(read(config, locate(config, base)))
    return str(found.value)


@pytest.mark.parametrize(
    ("path", "file", "says"),
    [
        ("set", "meta_data/info.json", "a LeRobot v1 set, [\\s\\S]*convert_dataset_v1_to_v2"),
        ("set", "meta_data/stats.safetensors", "a LeRobot v1 set"),
        ("set", "replay.zarr/.zgroup", "a zarr store"),
        ("pusht.zarr", ".zgroup", "a zarr store"),
        ("set", "zarr.json", "a zarr store, [\\s\\S]*LeRobotDataset.create"),
        ("set", "train/state.json", "images in arrow"),
        ("set", "demo.hdf5", "format: hdf5"),
        ("set", "features.json", "format: rlds"),
        ("set", "run.mcap", "a rosbag"),
        ("set", "README.md", "meta/info.json is missing"),
    ],
)
def test_other_storage_is_named(tmp_path, path, file, says):
    place = tmp_path / path / file
    place.parent.mkdir(parents=True)
    place.write_bytes(b"{}")
    assert re.search(says, error_of(source(path=path), tmp_path))


def test_a_zarr_archive_is_named(tmp_path):
    (tmp_path / "pusht.zarr.zip").write_bytes(b"PK")
    assert "a zarr store" in error_of(source(path="pusht.zarr.zip"), tmp_path)


@pytest.mark.parametrize(
    "mark",
    [
        {"info": {"is_depth_map": True}},
        {"info": {"video.is_depth_map": True}},
        {"video_info": {"video.is_depth_map": True}},
        {"dtype": "depth"},
    ],
)
def test_a_depth_map_is_no_camera(tmp_path, mark):
    root = lerobot_folder(tmp_path / "set", cameras={FRONT: (32, 48), "depth": (32, 48)})
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"]["depth"] |= mark
    path.write_text(json.dumps(info))
    said = error_of(source(camera="depth"), tmp_path)
    assert "'depth' is a depth map, no color images" in said and f"are: {FRONT}\n" in said + "\n"
    assert len(list(read(source(), root))) == 3
    assert "'action' is float32 of shape [3], no color" in error_of(
        source(camera="action"), tmp_path
    )


def test_an_old_version_names_its_converter(tmp_path):
    root = lerobot_folder(tmp_path / "set")
    path = root / "meta/info.json"
    path.write_text(path.read_text().replace('"v3.0"', '"v1.6"'))
    assert "convert_dataset_v1_to_v2" in error_of(source(), tmp_path)


def test_a_codec_that_is_not_decoded_is_named(tmp_path):
    root = lerobot_folder(tmp_path / "set")
    video = next(root.rglob("*.mp4"))
    video.write_bytes(video.read_bytes().replace(b"avc1", b"evc1"))
    sample = next(iter(read(source(), root)))
    problem = check_image(sample.images[0], root, 10_000)
    assert problem is not None and problem[0] == "undecodable_image"
    assert "its codec is none that PyAV decodes: encode it anew as H.264" in problem[1]
    with pytest.raises(ImageProblem):
        open_image(sample.images[0], root, 10_000)


def damaged(parquet: bytes) -> bytes:
    """All pages overwritten, what describes them whole."""
    footer = int.from_bytes(parquet[-8:-4], "little") + 8
    return parquet[:4] + b"\xff" * (len(parquet) - 4 - footer) + parquet[-footer:]


def test_a_table_that_is_damaged_inside_is_told_by_name(tmp_path):
    root = lerobot_folder(tmp_path / "set")
    for table in ("meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet"):
        whole = (root / table).read_bytes()
        (root / table).write_bytes(damaged(whole))
        assert "cannot be read as parquet" in error_of(source(), tmp_path)
        (root / table).write_bytes(whole)
    data = next((root / "data").rglob("*.parquet"))
    whole = data.read_bytes()
    data.write_bytes(damaged(whole))
    rows = list(read(source(), root))
    assert [row.reason for row in rows if isinstance(row, Reject)] == ["unreadable_row"] * 3


@pytest.mark.parametrize("model", [HDF5Source, RLDSSource])
@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("meta/info.json", "a LeRobot set[\\s\\S]*read it with `format: lerobot`"),
        ("run.mcap", "a rosbag"),
        ("replay.zarr/.zgroup", "a zarr store"),
        ("README.md", "remedy: `path` is the f"),
    ],
)
def test_the_readers_of_hdf5_and_rlds_name_other_storage_too(tmp_path, model, file, says):
    place = tmp_path / "set" / file
    place.parent.mkdir(parents=True)
    place.write_bytes(b"{}")
    assert re.search(says, error_of(other(model), tmp_path))


def test_hdf5_and_rlds_name_each_other_and_a_download_that_lacks_a_table(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "features.json").write_text("{}")
    found = error_of(other(HDF5Source), tmp_path)
    assert "an RLDS set" in found and "format: rlds" in found
    found = error_of(other(RLDSSource), tmp_path)
    assert "dataset_info.json is missing" in found and "complete the download" in found
    (tmp_path / "set" / "features.json").rename(tmp_path / "set" / "a.hdf5")
    assert "format: hdf5" in error_of(other(RLDSSource), tmp_path)


@pytest.mark.parametrize("model", [HDF5Source, RLDSSource])
@pytest.mark.parametrize(
    ("more", "says"),
    [({"role": "pool"}, "no answer to train on"), ({"instruction": ""}, "instruction")],
)
def test_frames_are_robot_data_and_an_instruction_is_not_empty(model, more, says):
    with pytest.raises(ValidationError, match=says):
        other(model, **more)
