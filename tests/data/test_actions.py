"""The action map: dataset action -> head target -> dataset action, for one arm, two arms, and a
plain 3-D hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from emt_core.data.readers import robot_set
from emt_core.data.readers.robot_set import RobotSet
from emt_core.data.robot.actions import ActionMap, fit_action_map
from emt_core.data.robot.episodes import read_episodes
from emt_core.data.robot.lerobot_writer import LeRobotWriter
from emt_core.data.robot.statistics import percentiles, ranges
from emt_core.data.robot.training_frames import fit_map, open_set
from emt_core.errors import EmtError
from emt_core.recipe.finetune import ActionConfig
from emt_core.recipe.sources import RobotData

HAND = ("x", "y", "z", "grip")
SET = RobotData(name="set", path="set", camera="observation.images.front")
SINGLE = ("x", "y", "z", "roll", "pitch", "yaw", "grip")
BIMANUAL = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in (*"abcdef", "grip"))


def recorded(names: tuple[str, ...], rows: int = 600, seed: int = 0) -> np.ndarray:
    """float32 [rows, A]: each dimension in a range of its own; grippers are 0 or 1."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-1, 1, (rows, len(names))) * np.linspace(0.2, 4, len(names)) + np.arange(
        len(names)
    )
    for place, name in enumerate(names):
        if name.endswith("grip"):
            values[:, place] = rng.integers(0, 2, rows)
    return values.astype(np.float32)


def fitted(
    config: ActionConfig,
    names: tuple[str, ...],
    actions: np.ndarray,
    state: np.ndarray | None = None,
) -> ActionMap:
    states = names if state is not None else ()
    return fit_action_map(config, names, states, lambda: [(actions, state)])


@pytest.mark.parametrize("names", [HAND, SINGLE, BIMANUAL], ids=["4", "7", "14"])
@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_an_action_comes_back_as_it_was_recorded(names: tuple[str, ...], kind: str):
    grippers = tuple(name for name in names if name.endswith("grip"))
    config = ActionConfig(gripper=grippers, scale="min_max", gripper_kind=kind)
    actions = recorded(names)
    map_ = fitted(config, names, actions)
    arm, gripper = map_.targets(actions.reshape(100, 6, -1))
    assert arm.shape == (100, 6, len(names) - len(grippers)) and gripper.shape == (
        100,
        6,
        len(grippers),
    )
    assert arm.dtype == gripper.dtype == np.float32
    assert np.abs(arm).max() <= 1 and arm.min() < -0.99 and arm.max() > 0.99
    back = ActionMap.from_json(map_.to_json()).actions(arm, gripper)
    np.testing.assert_allclose(back, actions.reshape(100, 6, -1), atol=2e-5)


def test_scales_clip_what_lies_beyond():
    actions = np.linspace(-2, 2, 1001, dtype=np.float32)[:, None]
    quantiles = fitted(ActionConfig(), ("x",), actions)
    assert quantiles.arm_low[0] == pytest.approx(-1.96, abs=0.01)
    assert quantiles.arm_high[0] == pytest.approx(1.96, abs=0.01)
    arm, _ = quantiles.targets(actions)
    assert arm.min() == -1 and arm.max() == 1
    fixed = fitted(ActionConfig(scale="clip", clip=0.65), ("x",), actions)
    arm, gripper = fixed.targets(np.array([[0.325], [2.0]], np.float32))
    np.testing.assert_allclose(arm[:, 0], [0.5, 1.0])
    np.testing.assert_allclose(fixed.actions(arm, gripper)[:, 0], [0.325, 0.65], rtol=1e-6)


def test_no_gripper_a_still_dimension_and_unused_ones():
    actions = recorded(SINGLE)
    actions[:, 3] = 7.0
    map_ = fitted(ActionConfig(unused=("grip", 5), scale="min_max"), SINGLE, actions)
    arm, gripper = map_.targets(actions)
    assert gripper.shape == (600, 0) and (arm[:, 3] == 0).all()
    back = map_.actions(arm, gripper)
    np.testing.assert_allclose(back[:, [0, 1, 2, 3, 4]], actions[:, [0, 1, 2, 3, 4]], atol=2e-5)
    np.testing.assert_allclose(
        back[:, [5, 6]], np.tile(actions[:, [5, 6]].mean(axis=0), (600, 1)), rtol=1e-5
    )


def test_dimensions_with_one_value_are_named_and_execute_it():
    actions = recorded(SINGLE)
    actions[:, 3] = 0.9
    actions[:, 6] = 0.2
    actions[:3, 4] += 50  # one frame in two hundred
    actions[3:, 4] = 1.0

    def still(rows: np.ndarray = actions, **settings: Any) -> tuple[str, ...]:
        config = ActionConfig(**{"gripper": ("grip",), **settings})
        map_ = fitted(config, SINGLE, rows)
        for name in map_.still:
            place = SINGLE.index(name)
            back = map_.actions(*map_.targets(rows))[3:, place]
            np.testing.assert_allclose(back, rows[3:, place], rtol=1e-6)
        return map_.still

    assert still(scale="q01_q99") == ("roll", "pitch", "grip")
    assert still(scale="min_max") == ("roll", "grip")
    assert still(scale="clip", clip=0.5) == ("roll", "grip")  # 0.9 is beyond the clip
    assert still(scale="min_max", gripper_kind="continuous") == ("roll", "grip")
    assert still(scale="min_max", gripper_threshold=0.1) == ("roll", "grip")
    assert still(recorded(SINGLE), scale="q01_q99") == ()


def test_a_binary_gripper_executes_the_mean_of_its_class():
    actions = np.array([[0.0], [0.2], [0.9], [0.7]], np.float32)
    arm = np.zeros((4, 1), np.float32)
    both = np.concatenate([arm, actions], axis=1)
    map_ = fitted(ActionConfig(gripper=("grip",)), ("x", "grip"), both)
    _, classes = map_.targets(both)
    assert classes[:, 0].tolist() == [0, 0, 1, 1]
    executed = map_.actions(arm[:2], np.array([[0.4], [0.6]]))
    np.testing.assert_allclose(executed[:, 1], [0.1, 0.8], rtol=1e-6)
    never = fitted(ActionConfig(gripper=("grip",), gripper_threshold=5), ("x", "grip"), both)
    assert (
        never.gripper_low == never.gripper_high
    )  # a class that never occurs has the other's value


def test_delta_actions_are_measured_from_the_state_at_the_chunks_start():
    rng = np.random.default_rng(0)
    state = rng.normal(size=(50, 4)).astype(np.float32)
    moved = state + rng.uniform(-0.1, 0.1, (50, 4)).astype(np.float32)
    config = ActionConfig(
        kind="delta",
        arm=("x", "y", "z"),
        gripper=("grip",),
        reference=("x", "y", "z"),
        scale="min_max",
    )
    map_ = fitted(config, HAND, moved, state)
    assert max(map_.arm_high) < 0.11
    arm, gripper = map_.targets(moved[:, None], state)
    back = map_.actions(arm, gripper, state)
    np.testing.assert_allclose(back[:, 0, :3], moved[:, :3], atol=1e-5)
    with pytest.raises(EmtError, match="no reference was given"):
        map_.actions(arm, gripper)
    again = ActionMap.from_json(map_.to_json())
    assert again == map_ and again.reference_names == HAND  # a simulator's state is matched by name
    map_.check_reference(state[:2], 2)
    for wrong in (None, state[0], state[:1], state[:2, :3], np.full((2, 4), np.nan)):
        with pytest.raises(EmtError, match="reference"):
            map_.check_reference(wrong, 2)
    assert "reference_names" not in fitted(ActionConfig(gripper=("grip",)), HAND, moved).to_json()
    with pytest.raises(ValidationError, match="needs `arm`"):
        ActionConfig(kind="delta")


def test_dimensions_that_do_not_match_are_named():
    actions = recorded(HAND)
    with pytest.raises(EmtError, match="no dimension 'gripper'") as caught:
        fitted(ActionConfig(gripper=("gripper",)), HAND, actions)
    assert "x, y, z, grip" in caught.value.remedy
    with pytest.raises(EmtError, match="no dimension 4"):
        fitted(ActionConfig(gripper=(4,)), HAND, actions)
    with pytest.raises(EmtError, match="nothing says what to do with action dimensions \\['z'\\]"):
        fitted(ActionConfig(arm=("x", "y"), gripper=("grip",)), HAND, actions)
    with pytest.raises(EmtError, match="in two lists"):
        fitted(ActionConfig(arm=("x", "y", "z", "grip"), gripper=("grip",)), HAND, actions)
    with pytest.raises(EmtError, match="incomplete"):
        ActionMap.from_json({"names": ["x"]})


def test_percentiles_of_blocks_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    whole = np.column_stack([rng.normal(0, 1, 5000), rng.uniform(3, 4, 5000), np.full(5000, 2.0)])
    parts = np.array_split(whole.astype(np.float32), 7)
    q01, q99 = percentiles(lambda: parts, (0.01, 0.99))
    np.testing.assert_allclose(q01, np.quantile(whole, 0.01, axis=0), rtol=1e-6)
    np.testing.assert_allclose(q99, np.quantile(whole, 0.99, axis=0), rtol=1e-6)
    low, high, mean = ranges(lambda: parts)
    np.testing.assert_allclose(low, whole.min(axis=0), rtol=1e-6)
    np.testing.assert_allclose(high, whole.max(axis=0), rtol=1e-6)
    np.testing.assert_allclose(mean, whole.mean(axis=0), atol=1e-6)
    for measured in (ranges, lambda blocks: percentiles(blocks, (0.5,))):
        with pytest.raises(ValueError, match="no rows"):
            measured(list)


def test_one_wild_value_does_not_flatten_a_dimension():
    actions = np.linspace(-1, 1, 10_001, dtype=np.float32)[:, None]
    actions[5000] = 1e6
    map_ = fitted(ActionConfig(), ("x",), actions)
    assert (map_.arm_low[0], map_.arm_high[0]) == pytest.approx((-0.98, 0.98), abs=1e-3)
    arm, _ = map_.targets(np.array([[0.49]], np.float32))
    assert arm[0, 0] == pytest.approx(0.5, abs=1e-3)


def write_set(
    folder: Path, *, version: str, names: tuple[str, ...] = HAND, task: str = "go"
) -> list[np.ndarray]:
    """Three episodes of falling length; returns their actions."""
    rng = np.random.default_rng(0)
    camera = "observation.images.front"
    episodes = []
    with LeRobotWriter(
        folder,
        fps=10,
        cameras={camera: (32, 32)},
        state_names=("s",),
        action_names=names,
        version=version,
    ) as writer:  # type: ignore[arg-type]
        for length in (9, 6, 4):
            action = rng.normal(size=(length, len(names))).astype(np.float32)
            frames = np.zeros((length, 32, 32, 3), np.uint8)
            writer.add_episode(
                task=task, images={camera: frames}, state=np.zeros((length, 1)), action=action
            )
            episodes.append(action)
    return episodes


def robot_of(base: Path, data: RobotData) -> RobotSet:
    return robot_set(data.source(), base / data.path)


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_actions_are_read_by_name_from_both_versions(tmp_path: Path, version: str):
    written = write_set(tmp_path / "set", version=version)
    found = list(read_episodes(robot_of(tmp_path, SET), ["action"]))
    for episode, actions in zip(found, written, strict=True):
        np.testing.assert_array_equal(episode.actions, actions)
        assert episode.instructions == ("go",) and episode.problem is None
    limited = SET.model_copy(update={"limit": 2})
    opened = open_set(robot_of(tmp_path, limited), ActionConfig())
    assert opened.names == HAND and len(opened.episodes) == 2
    map_ = fit_map([opened], ActionConfig(gripper=("grip",), scale="min_max"), chunk=3)
    assert map_.arm == (0, 1, 2) and map_.arm_high[0] == pytest.approx(
        max(a[:, 0].max() for a in written[:2])
    )


def test_episodes_without_instruction_or_with_nan_are_rejected_by_name(tmp_path: Path):
    write_set(tmp_path / "set", version="v3.0", task=" ")
    with pytest.raises(EmtError, match=r"no episode of 'set' can be trained on \(empty_text 3\)"):
        open_set(robot_of(tmp_path, SET), ActionConfig())
    with pytest.raises(EmtError, match="no numeric feature 'actions'"):
        open_set(robot_of(tmp_path, SET), ActionConfig(columns=("actions",)))
    with pytest.raises(EmtError, match="no camera 'wrist'"):
        open_set(robot_of(tmp_path, SET.model_copy(update={"camera": "wrist"})), ActionConfig())


def test_an_episode_without_frames_or_file_is_left_out_by_name(tmp_path: Path):
    written = write_set(tmp_path / "set", version="v2.1")
    meta = tmp_path / "set" / "meta"
    table = [json.loads(line) for line in (meta / "episodes.jsonl").read_text().splitlines()]
    info = json.loads((meta / "info.json").read_text())
    info["total_frames"] -= table[1]["length"]
    table[1]["length"] = 0
    (meta / "info.json").write_text(json.dumps(info))
    (meta / "episodes.jsonl").write_text("\n".join(map(json.dumps, table)))
    files = sorted((tmp_path / "set" / "data").rglob("*.parquet"))
    files[1].unlink()
    files[2].unlink()
    found = list(read_episodes(robot_of(tmp_path, SET), ["action"]))
    by_index = {episode.episode.index: episode for episode in found}
    assert by_index[0].problem is None
    np.testing.assert_array_equal(by_index[0].actions, written[0])
    assert by_index[1].problem == ("empty_episode", "no frames")
    assert by_index[2].problem is not None and by_index[2].problem[0] == "missing_file"
    assert len(open_set(robot_of(tmp_path, SET), ActionConfig()).episodes) == 1


def test_sets_of_two_robots_are_not_mixed(tmp_path: Path):
    write_set(tmp_path / "a", version="v3.0")
    write_set(tmp_path / "b", version="v3.0", names=SINGLE)
    opened = [
        open_set(
            robot_of(tmp_path, RobotData(name=n, path=n, camera="observation.images.front")),
            ActionConfig(),
        )
        for n in "ab"
    ]
    with pytest.raises(EmtError, match="different actions"):
        fit_map(opened, ActionConfig(), chunk=2)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        # as many numbers as 19 rows of four: they would be taken for those of other rows
        ([[1.0] * (2 + 4 * (row % 2)) for row in range(18)] + [[1.0] * 4], "different lengths"),
        ([["x"] * 4] * 19, "holds string, no numbers"),
        ([[1.0] * 4] * 18 + [None], "different lengths"),
    ],
)
def test_actions_that_are_no_table_of_numbers_are_an_error(tmp_path: Path, values: Any, says: str):
    write_set(tmp_path / "set", version="v3.0")
    (path,) = (tmp_path / "set" / "data").rglob("*.parquet")
    table = pq.read_table(path).slice(0, len(values))
    at = table.column_names.index("action")
    pq.write_table(
        table.set_column(at, "action", pa.array(values)),
        path,
    )
    with pytest.raises(EmtError, match=says) as caught:
        list(read_episodes(robot_of(tmp_path, SET), ["action"]))
    assert caught.value.where == str(path)


def test_an_episode_with_other_rows_than_the_table_says_is_left_out_by_name(tmp_path: Path):
    written = write_set(tmp_path / "set", version="v3.0")
    (path,) = (tmp_path / "set" / "data").rglob("*.parquet")
    pq.write_table(pq.read_table(path).slice(0, 12), path)
    found = list(read_episodes(robot_of(tmp_path, SET), ["action"]))
    np.testing.assert_array_equal(found[0].actions, written[0])
    reasons = [episode.problem[0] for episode in found[1:] if episode.problem]
    assert reasons == ["unreadable_row"] * 2
    assert "3 rows in its data file and 6 in the episodes table" in str(found[1].problem)


@pytest.mark.parametrize("shape", [4, ["four"], [2, 2]])
def test_an_action_of_odd_shape_is_an_error(tmp_path: Path, shape: Any):
    write_set(tmp_path / "set", version="v3.0")
    info = tmp_path / "set" / "meta" / "info.json"
    facts = json.loads(info.read_text())
    facts["features"]["action"]["shape"] = shape
    info.write_text(json.dumps(facts))
    with pytest.raises(EmtError, match="feature 'action' has shape"):
        list(read_episodes(robot_of(tmp_path, SET), ["action"]))
