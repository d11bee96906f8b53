"""Several processes ask a model's questions and play a policy's episodes: whoever is killed, the
results are those of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from places import ROOT
from question_suites import SUITES, suite, write_suites
from tiny_models import save_internvl

from emt_core.errors import EmtError
from emt_core.recipe.base import Runtime
from emt_core.recipe.retain import QuestionFile, RetainConfig
from emt_core.run.engines.base import make_shards, worker_states
from emt_core.run.shards import done_shards
from emt_core.run.stage import Context, Outcome
from emt_core.stages import retain
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json, write_json
from emt_core.workspace.progress import Progress

pytestmark = pytest.mark.timeout(600)

TWO = ("runtime.processes=2",)
RECIPE = """
name: kept
evaluate: {policy: policy, benchmark: {name: rehearsal, tasks: [reach, chain], max_steps: 20, step_seconds: 0.02},
           episodes: 12, videos: 2, environments: 2}
"""


def play(folder: Path, workspace: Path, overrides: Sequence[str] = ()) -> subprocess.Popen[str]:
    recipe = folder / "kept.yaml"
    if not recipe.exists():
        write_json(folder / "policy" / "policy.json", {"step": 10})
        recipe.write_text(RECIPE)
    script = str(ROOT / "tests" / "worlds" / "evaluate_process.py")
    return subprocess.Popen(
        [sys.executable, script, str(recipe), str(workspace), *overrides],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said[-3000:]
    return said


def played(workspace: Path) -> tuple[list[dict], dict[str, bytes], dict]:
    """Rows but for how long they took, videos, results."""
    (artifact,) = Workspace.open(workspace).artifacts("evaluate")
    table = pq.read_table(artifact.data / "episodes.parquet").drop_columns(["seconds"])
    videos = {path.name: path.read_bytes() for path in (artifact.data / "videos").iterdir()}
    assert not {"shards", "workers"} & {path.name for path in artifact.data.iterdir()}
    return table.to_pylist(), videos, read_json(artifact.data / "results.json")


def building(workspace: Path, stage: str) -> Path:
    return next(iter(workspace.glob(f"{stage}/*.building")), workspace / "none")


def kill_a_worker(workspace: Path, stage: str, after: int, over: threading.Event) -> int:
    """SIGKILL for a worker once `after` shards are done; returns its pid."""
    while not over.is_set():
        folder = building(workspace, stage)
        states = worker_states(folder)
        if states and len(done_shards(folder / "data")) >= after:
            os.kill(states[-1]["pid"], signal.SIGKILL)
            return states[-1]["pid"]
        time.sleep(0.005)
    return 0


@pytest.mark.slow
def test_episodes_of_two_workers_one_of_them_killed_are_those_of_one_process(tmp_path: Path):
    finish(play(tmp_path, tmp_path / "one"))
    process = play(tmp_path, tmp_path / "two", TWO)
    over = threading.Event()
    threading.Timer(120, over.set).start()
    assert kill_a_worker(tmp_path / "two", "evaluate", 2, over)
    said = finish(process)
    over.set()
    assert "shards by 2 processes" in said
    rows, videos, _ = one = played(tmp_path / "one")
    assert len(rows) == 24 and len(videos) == 4
    assert played(tmp_path / "two") == one


@pytest.mark.slow
def test_one_process_goes_on_where_killed_workers_were_and_the_other_way(tmp_path: Path):
    """Episodes are kept whoever played them, and no simulator outlives its worker."""
    finish(play(tmp_path, tmp_path / "one"))
    two = tmp_path / "two"
    process = play(tmp_path, two)
    log = None
    while process.poll() is None and not (log and log.read_bytes().count(b"\n") >= 3):
        log = next(iter(two.glob("evaluate/*.building/data/episodes.jsonl")), None)
        time.sleep(0.01)
    process.kill()
    process.communicate()
    process = play(tmp_path, two, TWO)
    data = building(two, "evaluate") / "data"
    while process.poll() is None and not done_shards(data):
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(family, timeout=20)[1]
    by_workers = sum(len(read_json(path)["episodes"]) for path in data.glob("shards/*.json"))
    assert log is not None and by_workers
    alone = log.read_bytes().count(b"\n")
    finish(play(tmp_path, two))
    assert played(two) == played(tmp_path / "one")
    assert alone + by_workers < 24


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of question files and two models."""
    base = write_suites(tmp_path_factory.mktemp("suites"))
    save_internvl(base / "origin")
    save_internvl(base / "mid", seed=1)
    return base


def context_of(base: Path, workspace: Path, **runtime: Any) -> Context:
    """retain of a tiny VLM and another in the place of a mid-trained one."""
    demo = str(ROOT / "assets/demo/questions.parquet")
    files = {"demo": QuestionFile(format="own", path=demo, limit=14)}
    files |= {name: suite(name) for name in SUITES}
    config = RetainConfig(model="origin", files=files, max_new_tokens=4)
    identity = retain.identity(config, base)
    space = Workspace.open(workspace, create=True)
    midtrain = space.find("midtrain", "m")
    if midtrain is None:
        data = space.building("midtrain", "m") / "data"
        data.mkdir(parents=True)
        (data / "model").symlink_to(base / "mid", target_is_directory=True)
        trained_from = {name: value for name, value in identity.items() if name != "suites"}
        facts = {"stage": "midtrain", "key": "m", "identity": trained_from}
        midtrain = space.commit("midtrain", "m", facts)
    out = space.building("retain", "k") / "data"
    out.mkdir(parents=True, exist_ok=True)
    return Context(
        config=config,
        identity=identity,
        base=base,
        parents={"midtrain": midtrain},
        out=out,
        runtime=Runtime.model_validate({"device": "cpu", "batch": 2, **runtime}),
        progress=Progress(label="retain", quiet=True),
        workspace=space,
    )


def ask(context: Context) -> tuple[Outcome, bytes, bytes]:
    """What the runner does for it."""
    make_shards("retain", "k", "retain", context)
    outcome = retain.run(context)
    return outcome, *((context.out / n).read_bytes() for n in ("answers.parquet", "results.json"))


@pytest.fixture(scope="module")
def one_asks(questions: Path, tmp_path_factory: pytest.TempPathFactory):
    return ask(context_of(questions, tmp_path_factory.mktemp("one")))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "slurm", "ray"])
def test_answers_of_two_workers_one_of_them_killed_are_those_of_one_process(
    questions: Path, one_asks, tmp_path: Path, engine: str
):
    over = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        killed.append(kill_a_worker(tmp_path / "two", "retain", 2, over))

    killer = threading.Thread(target=kill)
    killer.start()
    slurm = {"cluster": "local", "gpus": 0}
    context = context_of(questions, tmp_path / "two", processes=2, engine=engine, slurm=slurm)
    two = ask(context)
    over.set()
    killer.join()
    assert any(killed) and two == one_asks
    states = worker_states(building(tmp_path / "two", "retain"))
    # A lost actor's place is taken by another one, of another number; on a busy machine the one
    # that is left may have asked everything before the new one has loaded its model.
    began = len(states) + sum(state["restarts"] for state in states)
    assert began == 3 or (engine == "ray" and began == 2)


def test_another_batch_size_asks_no_question_again(questions: Path, tmp_path: Path):
    context = context_of(questions, tmp_path, batch=4)
    with retain.open_worker(context) as make:
        for shard in retain.shards(context)[:2]:
            make(shard)
    waiting = retain.shards(context_of(questions, tmp_path, batch=2))
    assert sum(shard.rows for shard in waiting) == 2 * (14 + 8) - 8


@pytest.mark.slow
def test_a_worker_without_its_model_is_told_in_the_run(questions: Path, tmp_path: Path):
    context = context_of(questions, tmp_path, processes=2)
    (context.parents["midtrain"].data / "model").unlink()
    with pytest.raises(EmtError):
        make_shards("retain", "k", "retain", context)
