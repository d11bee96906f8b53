"""HDF5 demonstrations: robomimic's own file, LIBERO's and ACT's layouts, and files from outside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from demonstrations.hdf5_files import act_file, actions, frames, libero_file, states
from demonstrations.write_rlds import INSTRUCTIONS, LENGTHS, pixels
from places import ROOT

from emt_core.data.images import hdf5
from emt_core.data.images.decode import check_image, image_bytes, open_image, open_images
from emt_core.data.images.handles import handle
from emt_core.data.readers import count, fingerprint, locate, read, robot_set
from emt_core.data.sample import Sample
from emt_core.errors import EmtError
from emt_core.recipe.sources import HDF5Source

ROBOMIMIC = ROOT / "tests/worlds/demonstrations/robomimic.hdf5"


def source(path: str = "set", **more) -> HDF5Source:
    facts = {"name": "arm", "role": "robot", "format": "hdf5", "path": path}
    return HDF5Source(**{**facts, "camera": "agentview_rgb", "frames_per_episode": 100, **more})


def act(**more) -> HDF5Source:
    return source(**{"camera": "cam_high", "instruction": "tidy up", **more})


def assert_shows(samples: list[Sample], root: Path, camera: int = 0) -> None:
    images = open_images([sample.images[0] for sample in samples], root, 10_000)
    for sample, image in zip(samples, images, strict=True):
        wanted = pixels(sample.episode, sample.frame, camera)
        np.testing.assert_array_equal(np.asarray(image), wanted)


def test_the_file_that_robomimic_wrote_is_read_pixel_for_pixel():
    config = source(camera="robot0_eye_in_hand_image", instruction="lift the cube")
    rows = list(read(config, ROBOMIMIC))
    assert all(isinstance(row, Sample) for row in rows) and len(rows) == sum(LENGTHS)
    assert count(config, ROBOMIMIC) == len(rows)
    assert_shows(rows, ROBOMIMIC.parent, camera=1)
    names = dict.fromkeys(row.own_id for row in rows)
    assert list(names) == [f"robomimic.hdf5/demo_{n}" for n in (1, 2, 10, 11)]  # by number
    robot = robot_set(config, ROBOMIMIC)
    assert robot.cameras == ["agentview_image", "robot0_eye_in_hand_image"]
    assert robot.columns == ["actions", "dones", "rewards", "states", "obs/robot0_eef_pos"]
    assert robot.actions == ("actions",) and robot.fps == 20
    for episode in robot.episodes():
        steps = robot.open(episode)
        np.testing.assert_array_equal(steps.values("actions"), actions(episode.index))
        seen = steps.values("obs/robot0_eef_pos")
        np.testing.assert_array_equal(seen, states(episode.index)[:, :3])
    assert steps.seconds[:2].tolist() == [0.0, 0.05]


def test_without_an_instruction_the_option_is_named():
    rows = list(read(source(camera="agentview_image"), ROBOMIMIC))
    assert {row.reason for row in rows} == {"empty_text"} and len(rows) == sum(LENGTHS)
    assert "`instruction:` gives all episodes one" in rows[0].detail


@pytest.mark.parametrize(
    ("flip", "turned"),
    [("none", (slice(None, None, -1), slice(None))), ("vertical", (slice(None), slice(None)))],
)
def test_a_folder_of_libero_files_upside_down_and_turned(tmp_path, rows_of, flip, turned):
    for number, text in enumerate((INSTRUCTIONS[0], list("open it"), '"quoted"')):
        libero_file(tmp_path / f"set/TASK_{number}_demo.hdf5", text)
    samples, rejects = rows_of(source(flip=flip))
    assert not rejects and len(samples) == 3 * sum(LENGTHS[:3])
    texts = dict.fromkeys(s.turns[0].text for s in samples)
    assert list(texts) == [INSTRUCTIONS[0], "open it", "quoted"]
    assert samples[-1].episode == 8
    for sample in samples[:12]:
        wanted = pixels(sample.episode, sample.frame, 0)[turned]
        image = open_image(sample.images[0], tmp_path / "set", 10_000)
        np.testing.assert_array_equal(np.asarray(image), wanted)
    content, suffix = image_bytes(samples[0].images[0], tmp_path / "set")
    assert suffix == ".png" and content.startswith(b"\x89PNG")


def test_a_half_turn_is_what_the_simulator_of_evaluate_shows(tmp_path, rows_of):
    libero_file(tmp_path / "set/a_demo.hdf5")
    samples, _ = rows_of(source(flip="both", limit=1))
    image = np.asarray(open_image(samples[0].images[0], tmp_path / "set", 10_000))
    np.testing.assert_array_equal(image, frames(0)[0][::-1][::-1, ::-1])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5", "turn on the stove"),
        ("pick_up_the_milk_demo.hdf5", "pick up the milk"),
        ("LIVING_ROOM_SCENE10_stack_the_bowls_demo.h5", "stack the bowls"),
        ("image.hdf5", None),
    ],
)
def test_without_problem_info_the_name_of_a_libero_file_says_it(tmp_path, rows_of, name, text):
    libero_file(tmp_path / "set" / name, None, episodes=1)
    samples, rejects = rows_of(source())
    assert {s.turns[0].text for s in samples} == ({text} if text else set())
    assert bool(rejects) == (text is None)


def test_robocasa_has_an_instruction_a_demo(tmp_path, rows_of):
    path = libero_file(tmp_path / "set/demo.hdf5", None, episodes=2)
    with h5py.File(path, "r+") as file:
        file["data/demo_1"].attrs["ep_meta"] = json.dumps({"lang": "close the fridge"})
    samples, rejects = rows_of(source())
    assert {(s.episode, s.turns[0].text) for s in samples} == {(1, "close the fridge")}
    assert {r.reason for r in rejects} == {"empty_text"}


@pytest.mark.parametrize("images", ["pixels", "padded", "lengths", "texts"])
def test_act_has_a_file_an_episode_in_all_its_encodings(tmp_path, rows_of, images):
    for place, episode in enumerate((0, 1, 2)):
        act_file(tmp_path / f"set/episode_{(2, 9, 10)[place]}.hdf5", episode, images)
    samples, rejects = rows_of(act())
    assert not rejects and len(samples) == sum(LENGTHS[:3])
    assert list(dict.fromkeys(s.own_id for s in samples)) == [
        f"episode_{number}.hdf5" for number in (2, 9, 10)
    ]
    assert_shows(samples, tmp_path / "set")
    robot = robot_set(act(), tmp_path / "set")
    assert robot.cameras == ["cam_high", "cam_left_wrist"] and robot.actions == ("action",)
    assert robot.columns == ["action", "observations/qpos", "observations/qvel"]
    np.testing.assert_array_equal(robot.open(robot.find(2)).values("action"), actions(2))


def test_swapped_colors_are_turned_back_when_asked(tmp_path, rows_of):
    act_file(tmp_path / "set/episode_0.hdf5", 0, "padded")
    samples, _ = rows_of(act(bgr=True))
    image = np.asarray(open_image(samples[0].images[0], tmp_path / "set", 10_000))
    np.testing.assert_array_equal(image, pixels(0, 0, 0)[..., ::-1])


@pytest.mark.parametrize("name", ["language_instruction", "language_raw", "instruction", "task"])
def test_an_instruction_in_an_act_file(tmp_path, rows_of, name):
    act_file(tmp_path / "set/episode_0.hdf5", 0, **{name: "wipe the table"})
    with h5py.File(act_file(tmp_path / "set/episode_1.hdf5", 1), "r+") as file:
        file.create_dataset(name, data=[b"wave"])
    samples, _ = rows_of(act(instruction=None))
    assert {(s.episode, s.turns[0].text) for s in samples} == {(0, "wipe the table"), (1, "wave")}


def test_two_cameras_each_and_in_one_picture(tmp_path, rows_of):
    libero_file(tmp_path / "set/a_demo.hdf5")
    both = {"camera": None, "cameras": ("agentview_rgb", "eye_in_hand_rgb"), "flip": "vertical"}
    samples, _ = rows_of(source(**both, frames_per_episode=1, episodes=("1",)))
    assert [s.meta["camera"] for s in samples] == ["agentview_rgb", "eye_in_hand_rgb"]
    (tile,), _ = rows_of(source(**both, frames_per_episode=1, episodes=("1",), views="tile"))
    seen = np.asarray(open_image(tile.images[0], tmp_path / "set", 10_000))
    np.testing.assert_array_equal(seen, np.hstack([pixels(1, 0, 0), pixels(1, 0, 1)]))


def test_one_camera_that_is_not_there_is_an_error_with_those_that_are(tmp_path):
    path = libero_file(tmp_path / "a_demo.hdf5")
    with pytest.raises(EmtError, match=r"no camera 'top'[\s\S]*agentview_rgb, eye_in_hand_rgb"):
        list(read(source(camera="top"), path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"", "it is empty"),
        (b"PK\x03\x04" + bytes(90), "a zip archive"),
        (b"no HDF5" * 20, "no HDF5 file: "),
        ("cut", "no HDF5 file: "),
        ("other", "neither data/demo_N (robomimic, LIBERO) nor observations/images"),
    ],
)
def test_a_file_that_is_none_costs_one_row_and_not_the_folder(tmp_path, rows_of, content, says):
    act_file(tmp_path / "set/episode_0.hdf5", 0)
    path = tmp_path / "set/episode_1.hdf5"
    if content == "cut":
        whole = act_file(path, 1).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif content == "other":
        with h5py.File(path, "w") as file:
            file["joints"] = np.zeros(3)
    else:
        path.write_bytes(content)
    act_file(tmp_path / "set/episode_2.hdf5", 2)
    samples, rejects = rows_of(act())
    assert {s.episode for s in samples} == {0, 2}
    assert [(r.row, r.reason, r.own_id) for r in rejects] == [
        (LENGTHS[0], "unreadable_file", "episode_1.hdf5")
    ]
    assert says in rejects[0].detail
    for gone in (0, 2):
        (tmp_path / f"set/episode_{gone}.hdf5").unlink()
    with pytest.raises(EmtError, match="no file of 'arm' can be read"):
        list(read(act(), tmp_path / "set"))


def test_hidden_copies_are_passed_over_and_an_empty_folder_is_named(tmp_path, rows_of):
    whole = act_file(tmp_path / "set/episode_0.hdf5", 0)
    for copy in ("._episode_0.hdf5", ".ipynb_checkpoints/episode_0.hdf5", "__MACOSX/a.hdf5"):
        (tmp_path / "set" / copy).parent.mkdir(exist_ok=True)
        shutil.copy(whole, tmp_path / "set" / copy)
    samples, _ = rows_of(act())
    assert len(samples) == LENGTHS[0] and fingerprint(act(), tmp_path / "set")["files"] == 1
    whole.unlink()
    with pytest.raises(EmtError, match=r"holds no file \.hdf5 or \.h5"):
        list(read(act(), tmp_path / "set"))


def test_a_folder_that_mixes_splits_is_refused_and_a_task_named_test_is_not(tmp_path, rows_of):
    act_file(tmp_path / "set/train/episode_0.hdf5", 0, instruction="test the lid")
    act_file(tmp_path / "set/train/pick_test_tube.hdf5", 1, instruction="test the lid")
    samples, _ = rows_of(act(path="set/train"))
    assert len(samples) == LENGTHS[0] + LENGTHS[1]
    act_file(tmp_path / "set/val/episode_2.hdf5", 2)
    with pytest.raises(EmtError, match=r"several splits: train \(train\), validation \(val\)"):
        list(read(act(), tmp_path / "set"))


def test_large_frames_are_never_unpacked(tmp_path, rows_of):
    libero_file(tmp_path / "set/a_demo.hdf5")
    samples, _ = rows_of(source(limit=1))
    problem = check_image(samples[0].images[0], tmp_path / "set", 16 * 24 - 1)
    assert problem and problem[0] == "pixel_bomb"


def test_a_file_that_is_written_anew_in_place_is_read_anew(tmp_path, rows_of):
    """HDF5 keeps what it read of a file that is still open, by its inode."""
    path = act_file(tmp_path / "set/episode_0.hdf5", 0)
    samples, _ = rows_of(act())
    assert_shows(samples, tmp_path / "set")
    other = act_file(tmp_path / "other.hdf5", 1, "padded").read_bytes()
    path.write_bytes(other)
    samples, rejects = rows_of(act())
    assert not rejects and len(samples) == LENGTHS[1]
    images = open_images([sample.images[0] for sample in samples], tmp_path / "set", 10_000)
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in images]), frames(1))


def test_damaged_files_are_rejects_or_one_error(tmp_path):
    """Bits flipped where the tables lie, and cuts."""
    rng = np.random.default_rng(0)
    path = tmp_path / "set/episode_0.hdf5"
    whole = act_file(path, 0).read_bytes()
    act_file(tmp_path / "set/episode_1.hdf5", 1)
    for number in range(40):
        content = bytearray(whole)
        for at in rng.integers(0, 3000, 4):  # where the tables lie
            content[at] ^= 1 << rng.integers(8)
        path.write_bytes(content[: rng.integers(1, len(whole))] if number % 4 == 0 else content)
        rows = list(read(act(), tmp_path / "set"))
        assert sum(isinstance(row, Sample) for row in rows) >= LENGTHS[1]
        for row in rows:
            for ref in row.images if isinstance(row, Sample) else ():
                check_image(ref, tmp_path / "set", 10_000)


def test_a_fingerprint_tells_a_changed_file(tmp_path):
    path = libero_file(tmp_path / "a_demo.hdf5")
    before = fingerprint(source(), path)
    libero_file(path, "another")
    assert fingerprint(source(), path) != before


def test_chunks_of_many_frames_are_unpacked_once(tmp_path, monkeypatch):
    """In order, as the frame cache reads them: h5py's own cache would hold 1 MB."""
    path = tmp_path / "set.hdf5"
    pictures = np.random.default_rng(0).integers(0, 255, (32, 96, 96, 3), np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("data/demo_0/obs/front", data=pictures, chunks=pictures.shape)
        file["data/demo_0/actions"] = np.zeros((32, 2))
    config = source(camera="front", instruction="go")
    refs = [sample.images[0] for sample in read(config, path)]
    images = open_images(refs, tmp_path, 10_000)
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in images]), pictures)
    open_file = handle(hdf5.HDF5File, path)
    kept = open_file.dataset("data/demo_0/obs/front")
    assert kept is open_file.dataset("data/demo_0/obs/front")  # a closed one forgets its chunks
    assert kept.id.get_access_plist().get_chunk_cache()[1] == hdf5.CACHE_BYTES > pictures.nbytes


def test_a_file_and_its_folder_are_located(tmp_path):
    path = libero_file(tmp_path / "set/a_demo.hdf5")
    alone = source(path="set/a_demo.hdf5")
    data = locate(alone, tmp_path)
    assert data == path and robot_set(alone, data).root == tmp_path / "set"
