"""The data of fine-tuning: two sets in one bounded cache, episodes that cannot be decoded."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_hub import hub_for
from finetune_runs import CAMERA, recipe_of, run, write_world
from frame_caches import Said, cache_of, needs_of

from emt_core.data.readers import robot_set
from emt_core.data.robot import frame_cache as cache_module
from emt_core.data.robot.training_frames import join_frames, open_set
from emt_core.errors import EmtError
from emt_core.recipe.finetune import ActionConfig
from emt_core.recipe.recipe import build_recipe
from emt_core.recipe.sources import RobotData


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def test_two_sets_share_one_bound(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    decoded: list[int] = []
    real = cache_module._fill_episode
    monkeypatch.setattr(
        cache_module,
        "_fill_episode",
        lambda episode, **o: decoded.append(episode.index) or real(episode, **o),
    )
    raw = recipe_of(world, steps=1, keep=[])
    both = sum(need.bytes for need in needs_of(build_recipe(raw)) if need.kind == "frames") / 1e9
    raw["runtime"] = {"frame_cache_gb": 0.7 * both}
    with pytest.raises(EmtError, match=r"frame cache of 'arm', 'hand' needs"):
        run(raw, tmp_path / "w")
    assert not decoded
    raw["runtime"] = {"frame_cache_gb": 1.01 * both, "frame_cache": "$SCRATCH/frames"}
    with pytest.raises(EmtError, match="a variable that is not set"):
        run(raw, tmp_path / "w")
    monkeypatch.setenv("SCRATCH", str(tmp_path / "node"))
    run(raw, tmp_path / "w")
    complete = list((tmp_path / "node" / "frames").glob("*/cache.json"))
    assert len(complete) == 2 and len(decoded) == 7
    run(recipe_of(world, steps=2, keep=[]) | {"runtime": raw["runtime"]}, tmp_path / "w")
    assert len(decoded) == 7  # both are still there


def test_an_undecodable_video_is_a_counted_reject(world: Path, tmp_path: Path):
    shutil.copytree(world / "arm", tmp_path / "arm")
    shutil.copytree(world / "hand", tmp_path / "hand")
    shutil.copytree(world / "vlm", tmp_path / "vlm")
    video = next((tmp_path / "hand").rglob("*.mp4"))
    video.write_bytes(b"no video")
    with pytest.raises(
        EmtError, match=r"no episode of 'hand' can be trained on \(undecodable_image 3\)"
    ):
        run(recipe_of(tmp_path), tmp_path / "w")
    # one episode of several
    arm = RobotData(name="arm", path="arm", camera=CAMERA).source()
    opened = open_set(robot_set(arm, world / "arm"), ActionConfig())
    _, cache = cache_of(world, tmp_path / "c", Said())
    cache.problems[1] = ("undecodable_image", "at 0.3 s")
    frames, rejects = join_frames([opened], [cache])
    assert len(frames) == 30 and [line["episode"] for line in rejects] == [1]
    np.testing.assert_array_equal(
        frames.pixels(np.array([10])), cache.pixels(np.array([20]))
    )  # episode 2 is the second now


def test_a_set_on_the_hub_trains_on_the_episodes_that_are_asked_for(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    raw = recipe_of(world, steps=1, keep=[])
    arm = raw["finetune"]["data"][0]
    arm |= {"path": "org/arm", "revision": "v3.0", "episodes": ["0", "2"]}
    with hub_for(tmp_path, monkeypatch) as hub:
        hub.publish("org/arm", "a" * 40, world / "arm", "v3.0")
        made = run(raw, tmp_path / "w")
    assert (made.metrics["frames"], made.metrics["episodes"]) == (20 + 30, 2 + 3)
    assert made.manifest["identity"]["arm"]["facts"] == ["a" * 40]
    assert any(file.endswith(".mp4") for file in hub.fetched)
