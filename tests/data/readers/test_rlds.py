"""RLDS episodes that tensorflow_datasets itself wrote (write_rlds.py in
tests/worlds/demonstrations)."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from demonstrations.write_rlds import INSTRUCTIONS, LENGTHS, action, pixels, state
from places import ROOT

from emt_core.data.crc32c import crc32c, masked
from emt_core.data.images.decode import check_image, image_bytes, open_image
from emt_core.data.readers import count, fingerprint, locate, read, robot_set
from emt_core.data.sample import ImageRef
from emt_core.data.tfrecord import HEADER, TFRecordFile
from emt_core.errors import EmtError
from emt_core.recipe.sources import RLDSSource

WRITTEN = ROOT / "tests/worlds/demonstrations/rlds"
SHARD = "libero-train.tfrecord-0000{}-of-00002"
STYLES = {"libero": "wrist_image", "fractal": "image", "language_table": "rgb"}
SPLITS = {"train": (0, 1, 2), "val": (3,)}


def source(style: str = "libero", **more) -> RLDSSource:
    facts = {"name": "arm", "role": "robot", "format": "rlds", "path": style}
    return RLDSSource(**{**facts, "camera": STYLES[style], "frames_per_episode": 100, **more})


@pytest.fixture
def libero(tmp_path: Path) -> Path:
    """A copy to be damaged; returns its version's folder."""
    shutil.copytree(WRITTEN / "libero", tmp_path / "libero")
    return tmp_path / "libero" / "1.0.0"


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("style", STYLES)
def test_every_frame_is_the_one_that_was_written(style, split):
    config = source(style, split=split)
    data = locate(config, WRITTEN)
    rows = list(read(config, data))
    frames = [(place, e, f) for place, e in enumerate(SPLITS[split]) for f in range(LENGTHS[e])]
    assert len(rows) == count(config, data) == len(frames)
    root = robot_set(config, data).root
    for row, sample, (place, episode, frame) in zip(range(99), rows, frames, strict=False):
        assert (sample.id, sample.episode, sample.frame) == (f"arm:{row}", place, frame)
        assert sample.turns[0].text == INSTRUCTIONS[episode % 2]
        image = np.asarray(open_image(sample.images[0], root, 10_000))
        np.testing.assert_array_equal(image, pixels(episode, frame, int(style == "libero")))


def test_jpeg_is_taken_as_it_lies_and_decoded_by_pillow(libero):
    config = source(camera="image")
    first = next(iter(read(config, libero)))
    content, suffix = image_bytes(first.images[0], libero)
    assert suffix == ".jpg" and content in (libero / SHARD.format(0)).read_bytes()
    seen = np.asarray(open_image(first.images[0], libero, 10_000)).astype(int)
    assert np.abs(seen - pixels(0, 0, 0))[:, 16:].max() <= 2  # behind the block with the corner


def test_actions_and_states_are_those_that_were_written():
    robot = robot_set(source(), locate(source(), WRITTEN))
    assert robot.actions == ("action",) and robot.cameras == ["image", "wrist_image"]
    assert "observation/state" in robot.columns
    for episode in robot.episodes():
        steps = robot.open(episode)
        length = LENGTHS[episode.index]
        wanted = [action(episode.index, frame) for frame in range(length)]
        np.testing.assert_array_equal(steps.values("action"), wanted)
        wanted = [state(episode.index, frame) for frame in range(length)]
        np.testing.assert_array_equal(steps.values("observation/state"), wanted)
        assert steps.values("is_last").reshape(-1).tolist() == [0.0] * (length - 1) + [1.0]
    parts = robot_set(source("fractal"), locate(source("fractal"), WRITTEN))
    steps = parts.open(parts.find(1))
    vector = steps.values("action/world_vector")
    np.testing.assert_array_equal(vector[2], action(1, 2)[:3])
    assert set(parts.actions) == {
        f"action/{name}" for name in ("world_vector", "rotation_delta", "gripper_closedness_action")
    } | {"action/terminate_episode"}
    # as long as the frame's number, so it is no column
    table = robot_set(source("language_table"), locate(source("language_table"), WRITTEN))
    assert "observation/trail" not in table.columns


def test_the_checksum_is_crc32c_of_any_length():
    assert crc32c([b"123456789"]) == 0xE3069283  # the check value of the standard
    assert crc32c([]) == crc32c([b""]) == 0
    content = np.random.default_rng(0).bytes(300_001)
    parts = (content[:1], content[1:257], content[257:70_000], content[70_000:])
    assert crc32c(parts) == crc32c([content]) == _slow(content)


def _slow(content: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def test_a_flipped_byte_costs_its_episode(libero, tmp_path, rows_of):
    path = libero / SHARD.format(0)
    content = bytearray(path.read_bytes())
    (first, second), _ = TFRecordFile(path).records()
    content[second.stop - 40] ^= 1
    path.write_bytes(content)
    samples, rejects = rows_of(source())
    assert {s.episode for s in samples} == {0, 2}
    assert [(r.row, r.reason) for r in rejects] == [(5 + n, "bad_checksum") for n in range(3)]
    assert f"bytes {second.start:,}" in rejects[0].detail and first.stop < second.start


def test_a_shard_that_is_cut_off_costs_the_episodes_behind(libero, rows_of):
    path = libero / SHARD.format(0)
    path.write_bytes(path.read_bytes()[:-10])
    samples, rejects = rows_of(source())
    assert {s.episode for s in samples} == {0, 2}
    assert [(r.row, r.reason) for r in rejects] == [(5, "unreadable_file")]
    assert "it is cut off at byte" in rejects[0].detail


@pytest.mark.parametrize(
    ("content", "reason", "says"),
    [
        (None, "missing_file", "No such file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "unreadable_file", "git lfs pull"),
        (b"\x1f\x8b" + bytes(40), "unreadable_file", "compressed (gzip)"),
        (b"", "unreadable_file", "empty"),
    ],
)
def test_a_missing_or_other_file_costs_as_many_episodes_as_promised(
    libero, rows_of, content, reason, says
):
    path = libero / SHARD.format(0)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    samples, rejects = rows_of(source())
    assert {s.episode for s in samples} == {2}
    assert [r.reason for r in rejects] == [reason] * 2 and says in rejects[0].detail
    assert fingerprint(source(), libero)["files"] >= 3


def test_more_episodes_than_promised_is_an_error(libero):
    info = json.loads((libero / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = ["1", "1"]
    (libero / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(EmtError, match=r"has 2 episodes, dataset_info\.json promises 1"):
        list(read(source(), libero))


def test_a_broken_image_is_found_by_its_own_bytes(libero):
    config = source(camera="wrist_image")
    ref = next(iter(read(config, libero))).images[0]
    path = libero / ref.path
    content = bytearray(path.read_bytes())
    at = content.index(b"\x89PNG", ref.index)
    content[at : at + 4] = b"oops"
    path.write_bytes(content)
    assert (check_image(ref, libero, 10_000) or ("",))[0] == "undecodable_image"
    beyond = ImageRef(kind="tfrecord", path=ref.path, index=len(content) + 5)
    assert (check_image(beyond, libero, 10_000) or ("",))[0] == "missing_image"
    inside = ImageRef(kind="tfrecord", path=ref.path, index=at)
    assert (check_image(inside, libero, 10_000) or ("",))[0] == "missing_image"


def rewritten(path: Path, change) -> None:
    """Write the shard again with changed records, checksums as they should be."""
    file = TFRecordFile(path)
    parts = []
    for record in file.records()[0]:
        content = change(path.read_bytes()[record.start : record.stop])
        length = HEADER.pack(len(content), 0)[:8]
        parts += [length, masked(crc32c([length])).to_bytes(4, "little")]
        parts += [content, masked(crc32c([content])).to_bytes(4, "little")]
    path.write_bytes(b"".join(parts))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"steps/observation/wrist_image", b"steps/observation/wrist_imaga", "missing_image"),
        (b"steps/action", b"steps/acti0n", "length_mismatch"),
        (b"steps/language_instruction", b"steps/language_instruct10n", "empty_text"),
        (b"steps/is_first", b"steps/is_f1rst", None),  # another column counts the steps
    ],
)
def test_an_episode_that_lacks_a_feature_is_rejected_by_name(libero, rows_of, old, new, reason):
    rewritten(libero / SHARD.format(1), lambda content: content.replace(old, new))
    samples, rejects = rows_of(source())
    if reason is None:
        assert len(samples) == sum(LENGTHS[:3]) and not rejects
        return
    assert {s.episode for s in samples} == {0, 1}
    assert {r.reason for r in rejects} == {reason} and len(rejects) == LENGTHS[2]


def test_an_episode_without_steps_and_a_record_of_nonsense_are_rejects(libero, rows_of):
    rewritten(libero / SHARD.format(0), lambda content: b"")
    rewritten(libero / SHARD.format(1), lambda content: b"\x0a\xff\xff\xff\xff\x7f")
    samples, rejects = rows_of(source())
    assert not samples
    assert [r.reason for r in rejects] == ["empty_episode", "empty_episode", "unreadable_row"]
    assert "reaches beyond its message" in rejects[2].detail


def test_limits_cameras_and_choices_of_episodes(rows_of, tmp_path):
    (tmp_path / "libero").symlink_to(WRITTEN / "libero")
    samples, _ = rows_of(source(limit=1))
    assert {s.episode for s in samples} == {0}
    samples, _ = rows_of(source(episodes=("1-2",), frames_per_episode=2))
    assert [(s.episode, s.frame) for s in samples] == [(1, 0), (1, 2), (2, 0), (2, 3)]
    both = {"camera": None, "cameras": ("image", "wrist_image"), "frames_per_episode": 1}
    samples, _ = rows_of(source(**both))
    assert [s.meta["camera"] for s in samples] == ["image", "wrist_image"] * 3
    (tile, *_), _ = rows_of(source(**both, views="tile", flip="both"))
    seen = np.asarray(open_image(tile.images[0], WRITTEN / "libero/1.0.0", 10_000))
    assert seen.shape == (16, 48, 3)
    np.testing.assert_array_equal(seen[:, 24:], pixels(0, 0, 1)[::-1, ::-1])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"camera": "top"}, "no camera 'top'[\\s\\S]*image, wrist_image"),
        ({"split": "test"}, "no split 'test'[\\s\\S]*train, val"),
        ({"language": "steps/words"}, "no text feature 'steps/words'[\\s\\S]*file_path"),
    ],
)
def test_what_is_not_there_is_an_error_with_what_is(settings, says):
    with pytest.raises(EmtError) as caught:
        list(read(source(**settings), WRITTEN / "libero"))
    assert re.search(says, caught.value.message())


def test_a_set_without_an_instruction_says_how_to_give_one(libero):
    found = (libero / "features.json").read_text()
    (libero / "features.json").write_text(found.replace("language_instruction", "words"))
    with pytest.raises(EmtError, match=r"no feature is an instruction[\s\S]*steps/words"):
        list(read(source(), libero))
    assert len(list(read(source(instruction="tidy up"), libero))) == sum(LENGTHS[:3])


def test_an_instruction_of_ones_own_and_another_feature(rows_of, tmp_path):
    (tmp_path / "libero").symlink_to(WRITTEN / "libero")
    samples, _ = rows_of(source(instruction="tidy up"))
    assert {s.turns[0].text for s in samples} == {"tidy up"}
    samples, _ = rows_of(source(language="episode_metadata/file_path"))
    assert {s.turns[0].text for s in samples} == {f"demo_{episode}.npy" for episode in range(3)}


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("dataset_info.json", {"fileFormat": "array_record"}, "tfds convert_format"),
        ("dataset_info.json", {"fileFormat": "riegeli"}, "'riegeli' is not read"),
        ("dataset_info.json", {"splits": "x"}, "its splits are: none"),
        ("dataset_info.json", {"splits": [{"name": "train"}]}, "shardLengths"),
        ("features.json", {"type": "x", "featuresDict": {}}, "before 4.5"),
        ("features.json", {"featuresDict": {"features": {"image": {}}}}, "no set of RLDS episodes"),
        ("features.json", {"featuresDict": {"features": {}}}, "it has nothing"),
    ],
)
def test_other_formats_and_layouts_are_named(libero, file, change, says):
    found = json.loads((libero / file).read_text())
    (libero / file).write_text(json.dumps(found | change))
    with pytest.raises(EmtError) as caught:
        list(read(source(), libero))
    assert says in caught.value.message()


def test_features_that_are_not_there_are_named(libero):
    (libero / "features.json").unlink()
    with pytest.raises(EmtError, match=r"features.json is missing[\s\S]*remedy: download it"):
        list(read(source(), libero))


@pytest.mark.parametrize("template", ["{SPLIT}", "../{DATASET}", "{WHAT}", "{0}", "{DATASET.x}"])
def test_a_template_of_file_names_cannot_lead_out(libero, template):
    info = json.loads((libero / "dataset_info.json").read_text())
    info["splits"][0]["filepathTemplate"] = template
    (libero / "dataset_info.json").write_text(json.dumps(info))
    if template == "{SPLIT}":
        rows = list(read(source(), libero))
        assert {row.reason for row in rows} == {"missing_file"}
        return
    with pytest.raises(EmtError, match="filepathTemplate"):
        list(read(source(), libero))


def test_the_version_is_found_below_the_name_and_several_are_named(libero, tmp_path):
    assert robot_set(source(), tmp_path).root == libero
    shutil.copytree(libero, tmp_path / "libero" / "2.0.0")
    with pytest.raises(EmtError, match=r"several versions[\s\S]*libero/1.0.0, libero/2.0.0"):
        robot_set(source(), tmp_path)
    with pytest.raises(EmtError, match=r"dataset_info.json is missing"):
        robot_set(source(), tmp_path / "libero" / "1.0.0" / "features.json")


def test_a_frame_of_a_large_shard_is_found_without_a_scan(libero, monkeypatch):
    config = source()
    ref = list(read(config, libero))[-1].images[0]
    asked = []
    whole = os.pread
    monkeypatch.setattr(os, "pread", lambda *given: asked.append(given[1:]) or whole(*given))
    open_image(ref, libero, 10_000)
    assert min(at for _, at in asked) >= ref.index
