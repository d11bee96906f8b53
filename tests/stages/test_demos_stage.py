"""The demos stage: resumable recording, failures counted and not kept, a data set that our reader
reads."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from emt_core.data.readers import robot_set
from emt_core.data.readers.lerobot_meta import load_meta
from emt_core.data.robot.episodes import read_episodes
from emt_core.errors import EmtError
from emt_core.evaluation.recording import recorder as recording
from emt_core.evaluation.recording.demonstrations import Episode
from emt_core.evaluation.recording.recorder import Recorder, robot_set_of
from emt_core.evaluation.seeds import EVAL_SEEDS, TRAIN_SEEDS, check_eval_seed, check_train_seed
from emt_core.recipe.demos import DemosConfig
from emt_core.recipe.recipe import build_recipe
from emt_core.recipe.sources import RobotData
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json

TASKS = ("reach-v3", "push-v3")


def fake_record(task, robot_set, seed, *, size, **_settings) -> Episode:
    """A third of the layouts fails; pixels and actions say which episode they are of."""
    length = 4 + seed % 3
    frames = np.full((length, size, size, 3), seed % 256, np.uint8)
    action = np.full((length, 4), seed / 10_000, np.float32)
    return Episode(
        frames=frames,
        state=np.zeros((length, 4), np.float32),
        action=action,
        success=bool(seed % 3),
    )


@pytest.fixture
def fake_expert(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    recorded: list[int] = []

    def record(task, robot_set, seed, **settings) -> Episode:
        recorded.append(seed)
        return fake_record(task, robot_set, seed, **settings)

    monkeypatch.setattr("emt_core.evaluation.recording.demonstrations.record_episode", record)
    monkeypatch.setattr(recording, "_results", here)
    return recorded


@contextmanager
def here(arguments: list[tuple], _workers: int) -> Iterator[Iterator[recording.Try]]:
    """Records in this process, where the expert is replaced."""
    yield (recording._record(*one) for one in arguments)


def small(**changes) -> DemosConfig:
    return DemosConfig(tasks=TASKS, episodes_per_task=5, size=32, **changes)


def run(folder: Path, **settings):
    recipe = build_recipe(
        {
            "name": "demos",
            "base": str(folder),
            "runtime": {"workers": 0},
            "demos": {"tasks": list(TASKS), "episodes_per_task": 5, "size": 32, **settings},
        }
    )
    workspace = Workspace.open(folder / "workspace", create=True)
    return run_plan(make_plan(recipe), workspace, quiet=True)["demos"]


def test_training_and_evaluation_layouts_never_overlap():
    assert not set(TRAIN_SEEDS) & set(EVAL_SEEDS[:20_000])
    assert TRAIN_SEEDS.stop <= EVAL_SEEDS.start
    assert check_train_seed(0) == 0 and check_eval_seed(EVAL_SEEDS.start) == EVAL_SEEDS.start
    with pytest.raises(EmtError, match="not one of evaluation"):
        check_eval_seed(TRAIN_SEEDS.stop - 1)
    with pytest.raises(EmtError, match="not one of demonstrations"):
        check_train_seed(EVAL_SEEDS.start)


def test_a_recording_is_a_data_set_of_successes_with_every_try_counted(
    tmp_path: Path, fake_expert: list[int]
):
    artifact = run(tmp_path)
    tries = parquet.read_table(artifact.data / "episodes.parquet").to_pandas()
    assert (tries["seed"] % 3 != 0).eq(tries["success"]).all()
    assert tries.groupby("task")["kept"].sum().to_dict() == {"reach-v3": 5, "push-v3": 5}
    assert artifact.metrics["failed"] == (~tries["success"]).sum() > 0
    assert all(seed in TRAIN_SEEDS for seed in fake_expert)

    root = artifact.data / "lerobot"
    meta = load_meta(root)
    assert meta.info["codebase_version"] == "v3.0" and meta.fps == 40
    data = RobotData(name="demos", path="lerobot", camera="observation.images.front")
    episodes = list(read_episodes(robot_set(data.source(), root), ["action"]))
    assert [episode.instructions[0].split()[0] for episode in episodes[:2]] == [
        "reach",
        "push",
    ]  # tasks in turn
    kept = tries[tries["kept"]]
    recorded = sorted(round(float(episode.actions[0, 0]) * 10_000) for episode in episodes)
    assert recorded == sorted(kept["seed"])
    assert artifact.rows == len(episodes) == 10
    assert not (artifact.data / "episodes").exists()
    facts = read_json(artifact.data / "recording.json")
    assert (
        facts["action_repeat"] == 2
        and facts["show_goal"]["reach-v3"] is True
        and facts["camera"]["fovy"] == 40
    )


def test_an_interrupted_recording_goes_on_and_gives_the_same_data(
    tmp_path: Path, fake_expert: list[int], monkeypatch: pytest.MonkeyPatch
):
    whole = run(tmp_path / "whole")
    tried = list(fake_expert)
    fake_expert.clear()

    real = recording._record

    def dies(*arguments):
        if len(fake_expert) == 6:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(recording, "_record", dies)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    monkeypatch.setattr(recording, "_record", real)
    resumed = run(tmp_path / "cut")
    assert sorted(fake_expert) == sorted(tried)  # nothing was recorded twice
    for name in ("lerobot/data/chunk-000/file-000.parquet", "episodes.parquet"):
        assert parquet.read_table(resumed.data / name).equals(parquet.read_table(whole.data / name))
    name = "lerobot/videos/observation.images.front/chunk-000/file-000.mp4"
    shown, expected = decoded(resumed.data / name), decoded(whole.data / name)
    assert shown.shape == expected.shape
    # not the bytes: swscale takes another path for memory that is aligned otherwise, which rounds
    # by a grey level
    assert np.abs(shown.astype(int) - expected).max() <= 2


def test_a_commit_that_fails_costs_no_episode(tmp_path: Path, fake_expert: list[int], monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched, pytest.raises(EmtError, match="the disk is full"):
        patched.setattr(Workspace, "commit", full)
        run(tmp_path)
    tried = len(fake_expert)
    artifact = run(tmp_path)
    assert len(fake_expert) == tried > 0
    assert sorted(path.name for path in artifact.data.iterdir()) == [
        "episodes.parquet",
        "lerobot",
        "recording.json",
    ]


def decoded(path: Path) -> np.ndarray:
    """uint8 [frames, height, width, 3]."""
    import av

    with av.open(str(path)) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


def test_a_try_whose_frames_are_missing_is_recorded_again(tmp_path: Path, fake_expert: list[int]):
    config = small()
    recorder = Recorder(tmp_path, config, robot_set_of(config), workers=0)
    recorder.run(lambda _: None)
    first = recorder.kept(0)[0]
    recorder.path(first).unlink()
    with (tmp_path / "tries.jsonl").open("a") as file:
        file.write('{"task": "reach-v3", "seed": 1')  # cut short by a kill
    again = Recorder(tmp_path, config, robot_set_of(config), workers=0)
    assert (first.task, first.seed) not in again.tries and len(again.tries) == len(
        recorder.tries
    ) - 1


def test_bad_recordings_say_so(
    tmp_path: Path, fake_expert: list[int], monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(EmtError, match="no instruction for task 'hammer-v3'"):
        robot_set_of(DemosConfig(tasks=("hammer-v3",)))
    words = DemosConfig(tasks=("hammer-v3",), instructions={"hammer-v3": ("drive the nail in",)})
    assert robot_set_of(words).tasks[0].instructions == ("drive the nail in",)

    def fails(task, robot_set, seed, **settings) -> Episode:
        episode = fake_record(task, robot_set, seed, **settings)
        return Episode(
            frames=episode.frames, state=episode.state, action=episode.action, success=False
        )

    monkeypatch.setattr("emt_core.evaluation.recording.demonstrations.record_episode", fails)
    with pytest.raises(EmtError, match="fails too often: 0 successes in 15 tries"):
        run(tmp_path)


def test_tries_are_one_json_object_a_line(tmp_path: Path, fake_expert: list[int]):
    config = small()
    Recorder(tmp_path, config, robot_set_of(config), workers=0).run(lambda _: None)
    lines = [json.loads(line) for line in (tmp_path / "tries.jsonl").read_text().splitlines()]
    assert {tuple(line) for line in lines} == {("task", "seed", "success", "steps")}


@pytest.mark.slow
def test_a_real_expert_is_recorded_in_processes_and_the_count_of_processes_changes_nothing(
    tmp_path: Path,
):
    pytest.importorskip("metaworld")
    made = []
    for workers in (1, 2):
        config = DemosConfig(
            tasks=("reach-v3", "drawer-open-v3"), episodes_per_task=2, size=48, seed=3
        )
        recorder = Recorder(tmp_path / str(workers), config, robot_set_of(config), workers)
        tries = recorder.run(lambda _: None)
        made.append(
            [(done, np.load(recorder.path(done))["frames"]) for done in tries if done.success]
        )
    assert [done for done, _ in made[0]] == [done for done, _ in made[1]] and len(made[0]) == 4
    for (_, one), (_, other) in zip(*made, strict=True):
        np.testing.assert_array_equal(one, other)
