"""Several cameras of a LeRobot set, each by itself or in one picture, and a choice of episodes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from source_files import lerobot_folder, picture, robot_frame

from emt_core.data.images.decode import (
    ImageProblem,
    check_image,
    image_bytes,
    image_size,
    open_image,
    open_images,
)
from emt_core.data.images.tiles import grid, parts_of, tile
from emt_core.data.readers import count, fingerprint, locate, read
from emt_core.errors import EmtError
from emt_core.recipe.sources import LeRobotSource, RobotData, SourcesConfig

WRIST = "observation.images.wrist"
FRONT = "observation.images.front"
CAMERAS = {FRONT: (32, 48), WRIST: (32, 32)}
LAYOUTS = [("v3.0", "video"), ("v3.0", "image"), ("v2.1", "video"), ("v2.1", "image")]


def source(**more) -> LeRobotSource:
    facts = {"format": "lerobot", "name": "arm", "role": "robot", "path": "set"}
    return LeRobotSource(**{**facts, "cameras": (FRONT, WRIST), **more})


def mean_color(image) -> np.ndarray:
    return np.asarray(image, float).reshape(-1, 3).mean(0)


@pytest.mark.parametrize(("version", "storage"), LAYOUTS)
def test_each_camera_gives_a_sample_of_every_frame(tmp_path, rows_of, version, storage):
    root = lerobot_folder(tmp_path / "set", version=version, storage=storage, cameras=CAMERAS)
    config = source(frames_per_episode=3)
    samples, rejects = rows_of(config)
    assert not rejects and len(samples) == 18 == count(config, root)
    assert [s.id for s in samples] == [f"arm:{row}" for row in range(18)]
    frames = product(range(3), (0, 6, 11), (FRONT, WRIST))  # linspace's 5.5 rounds to 6
    assert [(s.episode, s.frame, s.meta["camera"]) for s in samples] == list(frames)
    images = open_images([s.images[0] for s in samples], root, 10_000)
    for sample, image in zip(samples, images, strict=True):
        camera = (FRONT, WRIST).index(sample.meta["camera"])
        shown = robot_frame(sample.episode, sample.frame, camera)[0, 0]
        assert np.abs(mean_color(image) - shown).max() < 6
        assert image.size == ((48, 32), (32, 32))[camera]


@pytest.mark.parametrize(("version", "storage"), LAYOUTS)
def test_a_tile_shows_all_cameras_of_the_frame(tmp_path, rows_of, version, storage):
    root = lerobot_folder(tmp_path / "set", version=version, storage=storage, cameras=CAMERAS)
    config = source(views="tile", frames_per_episode=3)
    samples, rejects = rows_of(config)
    assert not rejects and len(samples) == 9 == count(config, root)
    for sample in samples:
        (ref,) = sample.images
        assert check_image(ref, root, 10_000) is None
        assert image_size(ref, root, 10_000) == (96, 32)
        whole = np.asarray(open_image(ref, root, 10_000), float)
        assert whole.shape == (32, 96, 3)
        for camera, part in enumerate((whole[:, :48], whole[:, 58:86])):
            shown = robot_frame(sample.episode, sample.frame, camera)[0, 0]
            assert np.abs(mean_color(part) - shown).max() < 6
        assert mean_color(whole[:, 49:55]).max() < 5  # the square wrist view stands on black
    assert {part.member for part in parts_of(samples[0].images[0])} == {FRONT, WRIST}
    content, suffix = image_bytes(samples[-1].images[0], root)
    assert suffix == ".png" and content[:4] == b"\x89PNG"
    assert check_image(samples[0].images[0], root, 96 * 32 - 1)[0] == "pixel_bomb"
    with pytest.raises(ImageProblem, match="2 cameras: 96 x 32 pixels, at most 3,071"):
        open_image(samples[0].images[0], root, 96 * 32 - 1)


def test_a_tile_is_a_grid_in_the_order_given():
    assert [grid(n) for n in range(1, 10)] == [
        (1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (3, 2), (3, 3), (3, 3), (3, 3)
    ]  # fmt: skip
    images = [picture(seed, (24, 16)) for seed in range(3)] + [picture(3, (48, 32))]
    whole = tile(images)
    assert whole.size == (48, 32)
    for place, image in enumerate(images):
        left, top = place % 2 * 24, place // 2 * 16
        cell = whole.crop((left, top, left + 24, top + 16))
        near = image.resize((24, 16), Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(cell, int) - np.asarray(near, int)).max() <= 1


def test_a_missing_video_of_one_camera_is_a_counted_reject(tmp_path, rows_of):
    root = lerobot_folder(tmp_path / "set", version="v2.1", cameras=CAMERAS)
    video = root / f"videos/chunk-000/{WRIST}/episode_000001.mp4"
    video.unlink()
    each, rejects = rows_of(source(frames_per_episode=2))
    assert not rejects
    gone = [s for s in each if check_image(s.images[0], root, 10_000)]
    assert [(s.episode, s.meta["camera"]) for s in gone] == [(1, WRIST)] * 2
    tiles, _ = rows_of(source(views="tile", frames_per_episode=2))
    problems = [check_image(s.images[0], root, 10_000) for s in tiles]
    assert [p[0] if p else None for p in problems] == [None] * 2 + ["missing_image"] * 2 + [
        None
    ] * 2
    assert "episode_000001.mp4" in problems[2][1]


def test_a_video_of_another_rate_is_named_whichever_camera_it_is(tmp_path, rows_of):
    other = lerobot_folder(tmp_path / "other", cameras={WRIST: (32, 32)}, fps=20)
    root = lerobot_folder(tmp_path / "set", cameras=CAMERAS)
    name = f"videos/{WRIST}/chunk-000/file-000.mp4"
    (root / name).write_bytes((other / name).read_bytes())
    samples, rejects = rows_of(source(frames_per_episode=1))
    assert not samples and {r.reason for r in rejects} == {"wrong_rate"}
    assert f"{name} has 20 frames a second" in rejects[0].detail


def test_one_camera_reads_as_it_did_before_there_were_several(tmp_path, rows_of):
    root = lerobot_folder(tmp_path / "set", cameras=CAMERAS)
    one = source(camera=FRONT, cameras=())
    samples, _ = rows_of(one)
    assert "camera" not in samples[0].meta and samples[0].images[0].kind == "video"
    assert one.model_dump(mode="json") == {
        "name": "arm",
        "role": "robot",
        "path": "set",
        "limit": None,
        "max_pixels": 50_000_000,
        "format": "lerobot",
        "camera": FRONT,
        "frames_per_episode": 8,
    }
    both = fingerprint(source(), root)
    assert both["files"] == fingerprint(one, root)["files"] + 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"camera": FRONT}, "one of the two"),
        ({"cameras": ()}, "one of the two"),
        ({"cameras": (FRONT, FRONT)}, "stands twice"),
        ({"episodes": "0:50"}, "neither a number nor first-last"),
        ({"episodes": ["5-2"]}, "runs backwards"),
        ({"name": "../x"}, "1-64 letters"),
    ],
)
def test_settings_that_contradict_are_refused(given, says):
    with pytest.raises(ValidationError, match=says):
        source(**given)


def test_a_policy_takes_one_camera_and_says_so():
    with pytest.raises(ValidationError, match="a policy sees one camera"):
        RobotData(name="arm", path="arm", cameras=[FRONT, WRIST])  # pyright: ignore


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_a_choice_of_episodes_is_told_against_the_table(tmp_path, rows_of, version):
    root = lerobot_folder(tmp_path / "set", version=version, episodes=4, data_file_mb=0.0)
    of = {"camera": FRONT, "cameras": (), "frames_per_episode": 1}
    asked = [
        ([3, 1], {}, [1, 3]),  # in the table's order, whatever order they are asked for in
        ("1-2", {}, [1, 2]),
        (["0", "2-3", "3"], {}, [0, 2, 3]),
        ("1-3", {"limit": 2}, [1, 2]),
        ((), {"limit": 2}, [0, 1]),
    ]
    for episodes, more, read_ones in asked:
        config = source(**of, episodes=episodes, **more)
        samples, _ = rows_of(config)
        assert [s.episode for s in samples] == read_ones and count(config, root) == len(read_ones)
        assert [s.row for s in samples] == list(range(len(read_ones)))
    for episodes, missing in (([0, 4], 4), ("2-9", 4), (f"0-{10**17}", 4)):
        with pytest.raises(EmtError, match=rf"no episode {missing}, [\s\S]*its episodes are 0-3"):
            list(read(source(**of, episodes=episodes), locate(source(**of), tmp_path)))
    whole = fingerprint(source(**of), root)["files"]
    assert fingerprint(source(**of, episodes=[1]), root)["files"] < whole


def test_a_recipe_names_cameras_and_episodes_in_plain_yaml():
    config = SourcesConfig.model_validate(
        {"sources": [{**source().model_dump(), "views": "tile", "episodes": [1, "5-9"]}]}
    )
    (only,) = config.sources
    assert only.episodes == ("1", "5-9") and only.all_cameras == (FRONT, WRIST)
    assert only.model_dump(mode="json")["views"] == "tile"
