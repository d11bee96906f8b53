"""Fine-tuning on HDF5 and RLDS: the action chunks, references and pixels of the files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demonstrations.hdf5_files import act_file, libero_file
from demonstrations.write_rlds import INSTRUCTIONS, LENGTHS, action, pixels, state
from finetune_runs import recipe_of, run
from frame_caches import Said, needs_of
from places import ROOT
from pydantic import ValidationError
from tiny_models import save_internvl

from emt_core.data.readers import locate, robot_set
from emt_core.data.robot.frame_cache import CacheNeed, frame_caches
from emt_core.data.robot.frames import square_frame
from emt_core.data.robot.training_frames import TrainingFrames, fit_map, join_frames, open_set
from emt_core.errors import EmtError
from emt_core.recipe.finetune import ActionConfig
from emt_core.recipe.recipe import build_recipe
from emt_core.recipe.sources import RobotData

EPISODES = 3
SIZE = 32


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same three episodes in each format, and the VLM."""
    folder = tmp_path_factory.mktemp("sets")
    save_internvl(folder / "vlm")
    shutil.copytree(ROOT / "tests/worlds/demonstrations/rlds/libero", folder / "rlds")
    libero_file(folder / "libero_demo.hdf5")
    for episode in range(EPISODES):
        act_file(folder / f"act/episode_{episode}.hdf5", episode, "padded")
    return folder


SETS: dict[str, dict[str, Any]] = {
    "rlds": {"format": "rlds", "path": "rlds", "camera": "wrist_image"},
    "libero": {
        "format": "hdf5",
        "path": "libero_demo.hdf5",
        "camera": "eye_in_hand_rgb",
        "flip": "vertical",
    },
    "act": {
        "format": "hdf5",
        "path": "act",
        "camera": "cam_left_wrist",
        "instruction": INSTRUCTIONS[0],
    },
}
COLUMNS = {"rlds": "action", "libero": "actions", "act": "action"}
STATES = {"rlds": "observation/state", "libero": "obs/ee_states", "act": "observations/qpos"}


def frames_of(base: Path, name: str, caches: Path) -> TrainingFrames:
    """What a run trains on."""
    source = RobotData(name=name, **SETS[name]).source()
    robot = robot_set(source, locate(source, base))
    config = ActionConfig(
        columns=(COLUMNS[name],),
        arm=(0, 1, 2, 3, 4, 5),
        gripper=(6,),
        kind="delta",
        reference=(0, 1, 2, 3, 4, 5),
        reference_column=STATES[name],
    )
    opened = open_set(robot, config)
    assert opened.rejects == []
    map_ = fit_map([opened], config, chunk=3)
    assert map_.arm == (0, 1, 2, 3, 4, 5)
    episodes = [episode.episode for episode in opened.episodes]
    need = CacheNeed(key=name, robot=robot, episodes=episodes, size=SIZE)
    assert need.frames == sum(LENGTHS[:EPISODES]) and need.bytes > 0
    filled = frame_caches(caches, [need], bound_gb=1, workers=2, progress=Said())
    frames, rejects = join_frames([opened], filled)
    assert rejects == []
    return frames


@pytest.mark.parametrize("name", SETS)
def test_chunks_references_and_pixels_are_those_of_the_files(sets, tmp_path, name):
    from PIL import Image

    frames = frames_of(sets, name, tmp_path)
    row = 0
    for episode in range(EPISODES):
        for frame in range(LENGTHS[episode]):
            actions, valid, reference = frames.chunks(np.array([row]), 3)
            ahead = [min(frame + step, LENGTHS[episode] - 1) for step in range(3)]
            np.testing.assert_array_equal(actions[0], [action(episode, at) for at in ahead])
            assert valid[0].sum() == min(3, LENGTHS[episode] - frame)
            assert reference is not None
            seen = state(episode, frame)[: reference.shape[1]]
            np.testing.assert_array_equal(reference[0], seen)
            shown = square_frame(Image.fromarray(pixels(episode, frame, 1)), SIZE)
            kept = frames.pixels(np.array([row]))[0].astype(int)
            assert np.abs(kept - shown).mean() < 2  # JPEG
            text = frames.texts[frames.instruction[row]]
            assert text == (INSTRUCTIONS[episode % 2] if name == "rlds" else INSTRUCTIONS[0])
            row += 1
    assert row == len(frames)


def test_a_policy_trains_on_both_formats_at_once(sets, tmp_path):
    for folder in ("rlds", "act", "vlm"):
        shutil.copytree(sets / folder, tmp_path / folder)
    act_file(tmp_path / "act/episode_9.hdf5", 3).write_bytes(b"cut off")
    data = [{"name": name, **SETS[name]} for name in ("rlds", "act")]
    raw = recipe_of(tmp_path, data=data, action={"gripper": [6]}, steps=2, keep=[])
    frames = [need for need in needs_of(build_recipe(raw)) if need.kind == "frames"]
    assert [need.what for need in frames] == ["12 frames of rlds", "12 frames of act"]
    made = run(raw, tmp_path / "w")
    assert (made.metrics["frames"], made.metrics["episodes"]) == (24, 6)
    assert made.metrics["instructions"] == 2
    rejects = [json.loads(line) for line in (made.data / "rejects.jsonl").open()]
    assert [(r["set"], r["episode"], r["reason"]) for r in rejects] == [
        ("act", 3, "unreadable_file")
    ]
    policy = next((made.data / "policies").glob("*/policy.json"))
    assert json.loads(policy.read_text())["action_map"]["names"] == [*"0123456"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"camera": "top"}, "no camera 'top'"),
        ({"split": "test"}, "no split 'test'"),
        ({"path": "nowhere"}, "no such file or folder"),
    ],
)
def test_mistakes_are_told_before_anything_runs(sets, tmp_path, change, says):
    data = [{"name": "rlds", **SETS["rlds"], **change}]
    raw = recipe_of(sets, data=data, action={"gripper": [6]})
    with pytest.raises(EmtError, match=says):
        run(raw, tmp_path)


def test_a_setting_of_another_format_is_refused():
    with pytest.raises(ValidationError, match="format lerobot has no setting bgr, split"):
        RobotData(name="arm", path="arm", camera="c", bgr=True, split="val")
    with pytest.raises(ValidationError, match="format hdf5 has no setting language"):
        RobotData(name="arm", path="a", camera="c", format="hdf5", language="x")
    plain = RobotData(name="arm", path="arm", camera="c")
    assert plain.model_dump() == {"name": "arm", "path": "arm", "camera": "c", "limit": None}
