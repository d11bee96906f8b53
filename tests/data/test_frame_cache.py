"""The frame cache: the videos' frames at training size, filled once, bounded; and the frames that
training reads."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from frame_caches import Said, cache_of
from PIL import Image
from small_world import write_robot
from source_files import lerobot_folder

from emt_core.data.readers.lerobot import robot_set
from emt_core.data.robot import frame_cache as cache_module
from emt_core.data.robot.frame_cache import CacheNeed
from emt_core.data.robot.frames import square_frame, square_frames
from emt_core.data.robot.training_frames import FrameOrder, join_frames, open_set
from emt_core.errors import EmtError
from emt_core.recipe.finetune import ActionConfig
from emt_core.recipe.sources import LeRobotSource, RobotData

CAMERA = "observation.images.front"
EVERY = np.arange(40)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_robot(folder / "arm", episodes=4, seed=0)
    return folder


def test_the_cache_holds_the_videos_frames_at_training_size(world: Path, tmp_path: Path):
    from emt_core.data.images.decode import open_image

    said = Said()
    robot, cache = cache_of(world, tmp_path, said)
    assert len(cache) == 40 and cache.problems == {}
    assert "GB" in said.lines[0] and "safe to delete" in said.lines[0]
    stored = (cache.folder / "frames.jpeg").stat().st_size
    assert stored == cache.sizes.sum() < 40 * 32 * 32 * 3 / 2
    for episode in (0, 3):
        for number, ref in enumerate(robot.frames(robot.find(episode), CAMERA)):
            image = open_image(ref, world / "arm", robot.source.max_pixels)
            expected = square_frame(image, 32)
            kept = cache.pixels(np.array([cache.first[episode] + number]))[0]
            assert np.abs(kept.astype(int) - expected).mean() < 3  # of 255; noise at quantizer 26
            # what a policy sees when acting goes the same way
            np.testing.assert_array_equal(square_frames(np.asarray(image)[None], 32)[0], expected)
    again = Said()
    cache_of(world, tmp_path, again)
    assert again.lines == []  # found, not filled
    shutil.rmtree(cache.folder)
    _, made = cache_of(world, tmp_path, Said(), workers=1)  # deleted: filled again, the same
    np.testing.assert_array_equal(made.pixels(EVERY), cache.pixels(EVERY))  # its file is still open


@pytest.mark.parametrize("size", [(640, 480), (100, 300)])
def test_frames_are_resized_by_bicubic_interpolation(size: tuple[int, int]):
    """As torchvision's Resize does it, which VLM4VLA uses with this interpolation."""
    from torchvision.transforms import InterpolationMode, Resize

    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    wanted = Resize((224, 224), interpolation=InterpolationMode.BICUBIC)(image)
    np.testing.assert_array_equal(square_frame(image, 224), np.asarray(wanted))
    np.testing.assert_array_equal(square_frames(pixels[None], 224)[0], np.asarray(wanted))


def test_a_killed_filling_goes_on(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real, filled = cache_module._fill_episode, []

    def dies(episode, **options):
        if len(filled) == 2:
            raise KeyboardInterrupt
        filled.append(episode.index)
        return real(episode, **options)

    monkeypatch.setattr(cache_module, "_fill_episode", dies)
    with pytest.raises(KeyboardInterrupt):
        cache_of(world, tmp_path, Said(), workers=1)
    with (tmp_path / "k" / "filled.jsonl").open("a") as file:
        file.write('{"epis')  # cut short
    with (tmp_path / "k" / "frames.jpeg").open("ab") as file:
        file.write(b"half an episode")
    monkeypatch.setattr(
        cache_module,
        "_fill_episode",
        lambda episode, **o: filled.append(episode.index) or real(episode, **o),
    )
    _, cache = cache_of(world, tmp_path, Said(), workers=1)
    assert sorted(filled) == [0, 1, 2, 3]  # none twice
    _, fresh = cache_of(world, tmp_path / "fresh", Said())
    np.testing.assert_array_equal(cache.pixels(EVERY), fresh.pixels(EVERY))
    assert (cache.folder / "frames.jpeg").stat().st_size == cache.sizes.sum()


def test_frames_whose_time_is_wrong_or_missing_are_never_trained_on(tmp_path: Path):
    """A video at another rate shows another moment; without a time nothing tells which frame."""
    lerobot_folder(tmp_path / "arm", version="v2.1")
    files = sorted((tmp_path / "arm" / "data").rglob("*.parquet"))
    times = {0: [n / 15 for n in range(12)], 1: [n / 10 for n in range(11)] + [None]}
    for episode, values in times.items():
        table = pq.read_table(files[episode])
        at = table.column_names.index("timestamp")
        pq.write_table(table.set_column(at, "timestamp", pa.array(values)), files[episode])
    _, cache = cache_of(tmp_path, tmp_path / "caches", Said())
    reasons = {episode: reason for episode, (reason, _) in cache.problems.items()}
    assert reasons == {0: "wrong_rate", 1: "unreadable_row"}
    assert (cache.sizes > 0).tolist() == [False] * 24 + [True] * 12


def test_a_damaged_cache_is_named(world: Path, tmp_path: Path):
    _, cache = cache_of(world, tmp_path, Said())
    with (cache.folder / "frames.jpeg").open("r+b") as file:
        file.seek(int(cache.at[3]))
        file.write(bytes(int(cache.sizes[3])))
    assert len(cache.pixels(np.array([2, 4]))) == 2
    with pytest.raises(EmtError, match=r"frame 3 .* is damaged") as caught:
        cache.pixels(np.array([3]))
    assert str(cache.folder) in caught.value.where


def test_the_estimate_holds_what_is_filled(world: Path, tmp_path: Path):
    _, cache = cache_of(world, tmp_path, Said())
    told = json.loads((cache.folder / "room.json").read_text())["bytes"]
    assert cache.sizes.sum() <= told <= 1.5 * cache.sizes.sum()


def test_the_estimate_passes_over_an_episode_without_frames(tmp_path: Path):
    lerobot_folder(tmp_path / "arm", episodes=3)
    for path in (tmp_path / "arm/data").rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.filter(pc.field("episode_index") != 0), path)
    for path in (tmp_path / "arm/meta/episodes").rglob("*.parquet"):
        table = pq.read_table(path)
        lengths = [0, *table.column("length").to_pylist()[1:]]
        place = table.column_names.index("length")
        pq.write_table(table.set_column(place, "length", pa.array(lengths)), path)
    source = LeRobotSource(name="arm", role="robot", format="lerobot", path="arm", camera=CAMERA)
    robot = robot_set(source, tmp_path / "arm")
    need = CacheNeed(key="k", robot=robot, episodes=list(robot.episodes()), size=32)
    assert need.episodes[0].length == 0
    assert (
        0 < need.bytes < 3 * 32 * 32 * need.frames
    )  # of frames that were looked at, not the bound


def test_the_cache_is_bounded(world: Path, tmp_path: Path):
    _, cache = cache_of(world, tmp_path / "one", Said())
    need = json.loads((cache.folder / "room.json").read_text())["bytes"] / 1e9
    for age, key in enumerate(("oldest", "older", "new")):
        _, cache = cache_of(world, tmp_path, Said(), key=key, bound_gb=2.5 * need)
        os.utime(cache.folder / "cache.json", (age, age))
    kept = {path.name for path in tmp_path.iterdir() if path.is_dir()} - {"one"}
    assert kept == {"new", "older"}
    with pytest.raises(EmtError, match="its bound is"):
        cache_of(world, tmp_path, Said(), key="large", size=96, bound_gb=2.5 * need)
    # a cache that another process is filling is not dropped
    shutil.rmtree(tmp_path / "one")
    tight = 1.5 * need
    with FileLock(tmp_path / "older.lock"), pytest.raises(EmtError, match="other runs are filling"):
        cache_of(world, tmp_path, Said(), key="newest", bound_gb=tight)
    assert (tmp_path / "older" / "cache.json").exists()
    cache_of(world, tmp_path, Said(), key="newest", bound_gb=tight)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["newest"]


def test_room_that_another_run_was_given_is_not_given_twice(world: Path, tmp_path: Path):
    """It has written nothing yet."""
    (tmp_path / "other").mkdir(parents=True)
    (tmp_path / "other" / "room.json").write_text(json.dumps({"bytes": 10**9}))
    with FileLock(tmp_path / "other.lock"), pytest.raises(EmtError, match="other runs are filling"):
        cache_of(world, tmp_path, Said(), bound_gb=1.0)


def test_chunks_stop_at_the_episodes_end(world: Path, tmp_path: Path):
    arm = RobotData(name="arm", path="arm", camera=CAMERA).source()
    opened = open_set(robot_set(arm, world / "arm"), ActionConfig())
    _, cache = cache_of(world, tmp_path, Said())
    frames, _ = join_frames([opened], [cache])
    actions, valid, reference = frames.chunks(np.array([0, 8, 9]), 3)
    assert (
        valid.tolist() == [[True] * 3, [True, True, False], [True, False, False]]
        and reference is None
    )
    np.testing.assert_array_equal(actions[0], opened.episodes[0].actions[:3])
    np.testing.assert_array_equal(actions[2], np.repeat(opened.episodes[0].actions[9:], 3, axis=0))


def test_every_frame_once_an_epoch_in_a_seeded_order():
    order = FrameOrder(10, 4, seed=3)
    seen = np.concatenate([order.rows(step) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10)) and list(seen[:10]) != list(
        seen[10:20]
    )
    np.testing.assert_array_equal(
        FrameOrder(10, 4, seed=3).rows(2), order.rows(2)
    )  # any step at once
    assert len(FrameOrder(3, 8, seed=0).rows(1)) == 8
