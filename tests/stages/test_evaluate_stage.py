"""evaluate: checkpoints, results, videos, keys, and going on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from dot_policy import DotPolicy
from event_files import scalars
from places import ROOT
from precision import auto_is

from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.base import FAILURES, FAULTS
from emt_core.evaluation.closed_loop.episodes import SCHEMA
from emt_core.evaluation.closed_loop.results import summarize
from emt_core.evaluation.seeds import EVAL_SEEDS
from emt_core.recipe.base import Runtime, Tracker
from emt_core.recipe.evaluate import EvaluateConfig
from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.run.stage import Context
from emt_core.stages import evaluate
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import read_json, write_json
from emt_core.workspace.progress import Progress

WORLDS = ROOT / "tests" / "worlds"
DOT = {"name": "rehearsal", "tasks": ["reach", "chain"], "max_steps": 8}


def finetuned(folder: Path, steps=(10, 20, 100)) -> Artifact:
    """A finetune artifact with kept policies; the fake policy reads its pace from the step."""
    for step in steps:
        write_json(folder / "data" / "policies" / f"step-{step}" / "policy.json", {"step": step})
    write_json(folder / "manifest.json", {"key": folder.name, "stage": "finetune"})
    return Artifact(folder)


@pytest.fixture(autouse=True)
def fake_policies(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    loaded: list[Path] = []

    def load(folder: Path, device: str, precision: str) -> DotPolicy:
        loaded.append(folder)
        return DotPolicy(gain=read_json(folder / "policy.json")["step"] / 100)

    monkeypatch.setattr(evaluate, "load_policy", load)
    return loaded


def context_of(
    base: Path, finetune: Artifact | None, report_to: tuple[Tracker, ...] = (), **settings
) -> Context:
    (base / "out").mkdir(parents=True, exist_ok=True)
    return Context(
        config=EvaluateConfig.model_validate({"benchmark": DOT, "episodes": 3, **settings}),
        identity=None,
        base=base,
        parents={"finetune": finetune} if finetune else {},
        out=base / "out",
        runtime=Runtime(report_to=report_to),
        progress=Progress(label="evaluate", quiet=True),
        workspace=Workspace.open(base / "ws", create=True),
    )


def run_stage(
    base: Path, finetune: Artifact | None, *, report_to: tuple[Tracker, ...] = (), **settings
) -> tuple[Path, dict]:
    context = context_of(base, finetune, report_to, **settings)
    out = context.out
    outcome = evaluate.run(context)
    for name in ("episodes.jsonl", evaluate.SIMULATOR):
        assert name in outcome.scratch and (out / name).exists()  # removed by the commit
    assert outcome.rows == pq.read_table(out / "episodes.parquet").num_rows
    return out, dict(outcome.metrics)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    base = tmp_path_factory.mktemp("evaluated")
    patch = pytest.MonkeyPatch()
    patch.setattr(
        evaluate,
        "load_policy",
        lambda folder, *_: DotPolicy(gain=read_json(folder / "policy.json")["step"] / 100),
    )
    try:
        trackers: tuple[Tracker, ...] = ("tensorboard",)
        tracked = {"checkpoints": "all", "videos": 2, "report_to": trackers}
        return run_stage(base, finetuned(base / "f"), **tracked)
    finally:
        patch.undo()


def test_every_checkpoint_task_and_episode_is_a_row(evaluated):
    out, _ = evaluated
    table = pq.read_table(out / "episodes.parquet")
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert [(r["checkpoint"], r["task"], r["episode"]) for r in rows] == [
        (step, task, n) for step in (10, 20, 100) for task in ("chain", "reach") for n in range(3)
    ]
    for row in rows:
        assert row["success"] == (row["failure"] == "")
        assert row["failure"] in {"", *FAILURES, *FAULTS}
        assert row["seed"] in EVAL_SEEDS
        assert row["instruction"].startswith("bring the red dot")
        assert 0 < row["steps"] <= 8 * row["goals"]
        assert bool(row["video"]) == (row["episode"] < 2)
    layouts = {row["episode"]: row["seed"] for row in rows}
    assert all(
        row["seed"] == layouts[row["episode"]] for row in rows
    )  # every checkpoint sees the same layouts


def test_trackers_get_the_success_of_each_checkpoint(evaluated):
    out, _ = evaluated
    (folder,) = (out.parent / "ws" / "tracking" / "tensorboard" / "evaluate").iterdir()
    found = scalars(folder)
    results = read_json(out / "results.json")["checkpoints"]
    assert all([step for step, _ in curve] == [10, 20, 100] for curve in found.values())
    for name, expected in (
        ("success", [result["mean"]["rate"] for result in results]),
        ("success/reach", [result["tasks"][1]["rate"] for result in results]),
        ("average_length", [result["average_length"] for result in results]),
    ):
        assert [value for _, value in found[name]] == pytest.approx(expected), name


def test_results_hold_what_the_rows_say(evaluated):
    out, metrics = evaluated
    rows = pq.read_table(out / "episodes.parquet").to_pylist()
    results = read_json(out / "results.json")
    assert [c["checkpoint"] for c in results["checkpoints"]] == [10, 20, 100]
    assert (results["rule"], results["chosen"]) == ("last", 100)
    for checkpoint in results["checkpoints"]:
        mine = [row for row in rows if row["checkpoint"] == checkpoint["checkpoint"]]
        assert checkpoint["mean"]["n"] == len(mine) == 6
        assert checkpoint["mean"]["successes"] == sum(row["success"] for row in mine)
        assert checkpoint["average_length"] == sum(row["completed"] for row in mine) / 6
        assert checkpoint["reached"] == sorted(checkpoint["reached"], reverse=True)
        for task in checkpoint["tasks"]:
            assert task["low"] <= task["rate"] <= task["high"]
            assert task["n"] == task["successes"] + sum(task["failures"].values())
    assert results["checkpoints"][-1]["mean"]["rate"] == metrics["success"]
    assert metrics["success"] > results["checkpoints"][0]["mean"]["rate"]
    assert (metrics["checkpoint"], metrics["rule"], metrics["tasks"]) == (100, "last", 2)
    assert results["simulator"]["versions"] == {"rehearsal": "1"}


def test_videos_play_what_the_policy_saw(evaluated):
    import av

    out, _ = evaluated
    rows = [row for row in pq.read_table(out / "episodes.parquet").to_pylist() if row["video"]]
    assert {path.name for path in (out / "videos").iterdir()} == {
        Path(row["video"]).name for row in rows
    }
    with av.open(str(out / rows[0]["video"])) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert frames[0].shape == (64, 64, 3)
    assert len(frames) == -(-rows[0]["steps"] // 3)  # one look a chunk of three actions


def row(checkpoint: int, success: bool, *, task: str = "t", failure: str = "") -> dict:
    return {
        "checkpoint": checkpoint,
        "task": task,
        "success": success,
        "failure": failure,
        "goals": 2,
        "completed": 2 * success,
    }


def test_what_workers_played_is_taken_over(evaluated, tmp_path: Path, fake_policies):
    """Shards of a worker, and of one with another cut: no episode counts twice."""
    out, _ = evaluated
    finetune = finetuned(tmp_path / "f")
    for environments, chosen in ((2, slice(0, 3)), (3, slice(0, None, 2))):
        settings = {"checkpoints": "all", "videos": 2, "environments": environments}
        context = context_of(tmp_path, finetune, **settings)
        with evaluate.open_worker(context) as play:
            for shard in evaluate.shards(context)[chosen]:
                play(shard)
    evaluate.run(context)
    rows, expected = (
        pq.read_table(folder / "episodes.parquet").drop_columns(["seconds"])
        for folder in (context.out, out)
    )
    assert rows.equals(expected)
    names = [path.name for path in (out / "videos").iterdir()]
    for name in names:
        assert (context.out / "videos" / name).read_bytes() == (out / "videos" / name).read_bytes()
    assert len(names) == 12 == len(list((context.out / "videos").iterdir()))
    assert not evaluate.shards(context)


def test_a_simulators_faults_count_neither_way():
    """A rate is of episodes played to their end; without one there is none, which is not 0 %."""
    rows = [
        *(row(1, False, failure=kind) for kind in FAULTS),
        row(2, True),
        row(2, False, failure="bad_action"),
        row(2, False, failure="hung"),
        row(3, True),
        row(3, False, task="u", failure="error"),
    ]
    results = summarize(rows, benchmark="b", rule="best")
    broken, half, partly = results["checkpoints"]
    assert broken["mean"] == {
        "n": 0,
        "successes": 0,
        "rate": None,
        "low": None,
        "high": None,
    }
    assert broken["failures"] == {} and broken["faults"] == dict.fromkeys(FAULTS, 1)
    assert "average_length" not in broken
    assert (half["mean"]["n"], half["mean"]["rate"], half["average_length"]) == (2, 0.5, 1.0)
    assert (half["failures"], half["faults"]) == ({"bad_action": 1}, {"hung": 1})
    # one task of two has a rate: the other may be harder, so there is no mean of the checkpoint
    assert [task["rate"] for task in partly["tasks"]] == [1.0, None]
    assert partly["mean"]["rate"] is partly["mean"]["low"] is None
    assert results["chosen"] == 2
    only = summarize(rows[:3], benchmark="b", rule="best")
    assert only["chosen"] == 1 and only["checkpoints"][0]["mean"]["rate"] is None


def test_a_run_whose_simulator_always_fails_has_no_success_rate(tmp_path: Path):
    out, metrics = run_stage(
        tmp_path,
        finetuned(tmp_path / "f", steps=(1,)),  # too slow to arrive before the trouble
        benchmark={**DOT, "tasks": ["raise"]},
        episodes=2,
        videos=0,
    )
    assert metrics["success"] is metrics["low"] is metrics["high"] is None
    assert (metrics["episodes"], metrics["failures"], metrics["faults"]) == (0, {}, {"error": 2})
    rows = pq.read_table(out / "episodes.parquet").to_pylist()
    assert {r["detail"] for r in rows} == {"RuntimeError: the dot fell off the table"}


def test_the_rule_that_chooses_is_stated():
    rows = [row(1, True), row(1, True), row(2, True), row(2, False)]
    last, best = (summarize(rows, benchmark="b", rule=rule) for rule in ("last", "best"))
    assert (last["chosen"], best["chosen"]) == (2, 1)
    assert "flatters" in best["rule_text"]


def test_checkpoints_are_chosen_by_step(tmp_path: Path, fake_policies):
    finetune = finetuned(tmp_path / "f")
    run_stage(
        tmp_path,
        finetune,
        benchmark={**DOT, "tasks": ["reach"]},
        checkpoints=[100, 10],
        episodes=1,
        videos=0,
    )
    assert [folder.name for folder in fake_policies] == ["step-10", "step-100"]
    assert not (tmp_path / "out" / "videos").exists()
    with pytest.raises(EmtError, match="no checkpoint at step 30") as error:
        run_stage(tmp_path / "b", finetune, checkpoints=[30])
    assert "10, 20, 100" in error.value.remedy
    with pytest.raises(EmtError, match="holds no policy"):
        run_stage(tmp_path / "c", finetuned(tmp_path / "g", steps=()))


RECIPE = """
name: kept
evaluate: {policy: POLICY, benchmark: {name: rehearsal, tasks: [reach, chain], max_steps: 20, step_seconds: 0.02},
           episodes: 12, videos: 1, environments: 2}
"""


def recipe_for(folder: Path, policy: str = "policy") -> Path:
    write_json(folder / policy / "policy.json", {"step": 10})
    path = folder / "kept.yaml"
    path.write_text(RECIPE.replace("POLICY", policy))
    return path


def test_a_policy_is_its_files_and_where_it_runs_enters_no_key(tmp_path: Path):
    def key(path: Path, *overrides: str) -> str:
        return make_plan(load_recipe(path, overrides)).get("evaluate").key

    first = recipe_for(tmp_path / "one")
    moved = recipe_for(tmp_path / "two", policy="elsewhere")
    assert key(first) == key(moved)
    assert key(first) == key(first, "evaluate.environments=9", "evaluate.python=/opt/python")
    assert key(first) != key(first, "evaluate.seed=1")
    write_json(tmp_path / "two" / "elsewhere" / "policy.json", {"step": 11})
    assert key(first) != key(moved)
    with pytest.raises(EmtError, match="there is no such folder"):
        key(first, "evaluate.policy=nowhere")
    with pytest.raises(EmtError, match=r"policy\.json is missing"):
        key(first, "evaluate.policy=.")
    with pytest.raises(EmtError, match="chooses among those of a finetune artifact"):
        key(first, "evaluate.checkpoints=all")


def test_killed_it_goes_on_at_the_next_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe, space = recipe_for(tmp_path), tmp_path / "ws"
    command = [sys.executable, str(WORLDS / "evaluate_process.py"), str(recipe), str(space)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    log = None
    for _ in range(3000):
        log = next(space.glob("evaluate/*.building/data/episodes.jsonl"), None)
        if process.poll() is not None or (log and log.read_bytes().count(b"\n") >= 3):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert log is not None, "killed before its first episode"
    lines = log.read_bytes().splitlines(keepends=True)
    kept = [json.loads(line) for line in lines if line.endswith(b"\n")]
    assert 0 < len(kept) < 24
    with log.open("ab") as file:
        file.write(b'{"task": "reach", "episode": 99, "suc')  # a line cut short

    auto_is(monkeypatch, torch.bfloat16)  # it was begun in float32
    asked = []

    def load(folder: Path, device: str, precision: str) -> DotPolicy:
        asked.append(precision)
        return DotPolicy(gain=0.1)

    monkeypatch.setattr(evaluate, "load_policy", load)
    done = run_plan(make_plan(load_recipe(recipe)), Workspace.open(space), quiet=True)["evaluate"]
    rows = pq.read_table(done.data / "episodes.parquet").to_pylist()
    assert [(r["task"], r["episode"]) for r in rows] == [
        (t, n) for t in ("chain", "reach") for n in range(12)
    ]
    for row in kept:
        assert row in rows  # not played again: even the seconds are the same
    assert not (done.data / "episodes.jsonl").exists()
    assert done.metrics["episodes"] == 24
    assert done.metrics["checkpoint"] == evaluate.NO_STEP
    assert asked == ["float32"]


def test_a_run_that_finds_all_episodes_played_still_names_the_simulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stops(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "load_policy", lambda *_: DotPolicy(gain=0.1))
    plan = make_plan(load_recipe(recipe_for(tmp_path)))
    space = Workspace.open(tmp_path / "ws", create=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("emt_core.evaluation.closed_loop.results.summarize", stops)
        run_plan(plan, space, quiet=True)
    done = run_plan(plan, space, quiet=True)["evaluate"]
    results = json.loads((done.data / "results.json").read_text())
    assert results["simulator"]["versions"] == {"rehearsal": "1"}
    assert not (done.data / evaluate.SIMULATOR).exists()


def test_workers_end_with_a_killed_evaluation(tmp_path: Path):
    """A simulator that hangs would outlive its evaluation for ever."""
    import psutil

    recipe, space = recipe_for(tmp_path), tmp_path / "ws"
    recipe.write_text(recipe.read_text().replace("tasks: [reach, chain]", "tasks: [hang]"))
    command = [sys.executable, str(WORLDS / "evaluate_process.py"), str(recipe), str(space)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    workers: list[psutil.Process] = []
    for _ in range(3000):
        workers = (
            psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        )
        if len(workers) == 2 and all(worker.cpu_times().user > 0.05 for worker in workers):
            break
        time.sleep(0.02)
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
