"""The same recipe on every engine, with workers killed: features, scores and selection are those
of one process, id by id and bit by bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from places import ROOT
from small_world import small_world
from tiny_models import save_internvl

from emt_core.data.features import Features
from emt_core.errors import EmtError
from emt_core.recipe.base import Ray, Runtime, Slurm
from emt_core.run.engines import base, ray, slurm
from emt_core.run.engines.training import ranks_of
from emt_core.run.shards import Shard
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.process import LAUNCHED
from emt_core.workspace.table import Table

pytestmark = pytest.mark.timeout(600)

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
STAGES = ("embed", "score", "select")
VLM = "embed={encoder: vlm, model: model, pooling: mean}"


def start(recipe: Path, workspace: Path, *settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "emt_core.cli", "run", str(recipe), "-w", str(workspace)]
    command += ["--until", "select"]
    for item in ("runtime.batch=4", *settings):
        command += ["--set", item]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
    )


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said[-3000:]
    return said


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Path, Path]:
    """(recipe, workspace that one process made)"""
    folder = tmp_path_factory.mktemp("world")
    small_world(folder, pool_rows=64, episodes=6)
    save_internvl(folder / "model")
    recipe = folder / "recipe.yaml"
    text = recipe.read_text()
    text = text.replace("embed: {encoder: fake}", VLM.replace("=", ": ", 1))
    recipe.write_text(text)
    finish(start(recipe, folder / "one"))
    return recipe, folder / "one"


def kill_half(workspace: Path, process: subprocess.Popen[str], seed: int) -> int:
    """SIGKILL for a worker of two, drawn, each time two more shards are done. Returns how many."""
    rng = random.Random(seed)
    killed: set[int] = set()
    seen = 1
    while process.poll() is None and len(killed) < 2:
        data = next(iter(workspace.glob("embed/*.building/data")), None)
        done = len(list((data / "shards").glob("*.json"))) if data else 0
        if data and done >= seen:
            states = sorted((data / "workers").glob("[0-9]*.json"))
            states = [file for file in states if "error" not in file.name]
            pid = json.loads(rng.choice(states).read_text())["pid"] if states else 0
            if pid and pid not in killed and psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
                seen = done + 2
        time.sleep(0.01)
    return len(killed)


def assert_same(one: Path, other: Path) -> None:
    a, b = (Workspace.open(path) for path in (one, other))
    for stage in STAGES:
        assert {x.key for x in a.artifacts(stage)} == {x.key for x in b.artifacts(stage)}
    (first,), (second,) = a.artifacts("embed"), b.artifacts("embed")
    x, y = (Features.at(artifact.data / "features.lance") for artifact in (first, second))
    rows = range(x.rows)
    np.testing.assert_array_equal(x.take(rows).view(np.uint16), y.take(rows).view(np.uint16))
    assert x.table.column("status").tolist() == y.table.column("status").tolist()
    (first,), (second,) = a.artifacts("score"), b.artifacts("score")
    x, y = (
        Table(artifact.data / "scores.lance").column("logit").view(np.uint32)
        for artifact in (first, second)
    )
    np.testing.assert_array_equal(x, y)
    (first,), (second,) = a.artifacts("select"), b.artifacts("select")
    x, y = (Table(artifact.data / "selection.lance").column("rank") for artifact in (first, second))
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "settings",
    [
        ("runtime.engine=ray",),
        ("runtime.engine=slurm", "runtime.slurm.cluster=local", "runtime.slurm.gpus=0"),
    ],
    ids=["ray", "submitit"],
)
def test_half_of_the_workers_killed_changes_nothing(world, tmp_path, settings):
    recipe, one = world
    process = start(recipe, tmp_path / "w", *settings, "runtime.processes=2")
    killed = kill_half(tmp_path / "w", process, seed=0)
    said = finish(process)
    assert killed, said
    assert_same(one, tmp_path / "w")
    again = "another one takes its place" if "ray" in settings[0] else "submitted again"
    assert again in said


@pytest.mark.slow
def test_a_stopped_run_on_ray_keeps_its_shards_and_says_so(world, tmp_path):
    recipe, one = world
    settings = ("runtime.engine=ray", "runtime.processes=1")
    process = start(recipe, tmp_path / "w", *settings)
    while process.poll() is None and not list(tmp_path.glob("w/embed/*/data/shards/*.json")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "what was committed is kept" in said, said[-3000:]
    assert "Traceback" not in said
    (job,) = (tmp_path / "w" / "jobs").glob("[0-9]*")
    assert json.loads((job / "end.json").read_text())["code"] == 130
    finish(start(recipe, tmp_path / "w"))  # on this machine alone
    assert_same(one, tmp_path / "w")


FAKE_SBATCH = """#!/bin/sh
for last; do :; done
cp "$last" "$(dirname "$0")/submitted.sh"
echo Submitted batch job 7
"""


def test_the_recipe_s_settings_stand_in_the_script_for_slurm(monkeypatch, tmp_path):
    for name in ("sbatch", "srun", "sacct"):
        (tmp_path / name).write_text(FAKE_SBATCH)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    settings = Slurm(
        partition="gpu", account="lab", minutes=90, gpus=2, cpus=4, options={"qos": "high"}
    )
    executor = slurm.executor_for(tmp_path / "jobs", "emt-embed", settings)
    executor.submit(print, "anything")
    script = (tmp_path / "submitted.sh").read_text()
    for line in (
        "--job-name=emt-embed",
        "--partition=gpu",
        "--account=lab",
        "--time=90",
        "--gpus-per-node=2",
        "--cpus-per-task=4",
        "--qos=high",
    ):
        assert f"#SBATCH {line}\n" in script, script


def test_without_slurm_s_commands_it_is_said(tmp_path):
    with pytest.raises(EmtError, match="no Slurm"):
        slurm.executor_for(tmp_path, "emt-embed", Slurm())


def test_a_missing_package_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(EmtError, match=r"needs the package 'submitit'") as raised:
        slurm.executor_for(tmp_path, "emt-embed", Slurm())
    assert "[slurm]" in raised.value.remedy


def test_an_error_at_a_worker_s_rows_is_told_in_its_words(monkeypatch, tmp_path):
    """It would come again: no engine starts such a worker anew."""

    @contextmanager
    def open_worker(context):
        def make(shard):
            raise EmtError("row 7 is odd", where="pool", remedy="mend it")

        yield make

    job = SimpleNamespace(stage="embed", label="embed", run="a", context=lambda progress: None)
    (tmp_path / "job.json").write_text('{"run": "a"}')
    monkeypatch.setattr(base.ShardJob, "read", lambda workers: job)
    monkeypatch.setattr(base, "stage_module", lambda _: SimpleNamespace(open_worker=open_worker))
    stack = ExitStack()  # as in a Ray actor: an error in a call does not pass through it
    make = stack.enter_context(base.opened(tmp_path, 3))
    with pytest.raises(EmtError, match="row 7"):
        make(Shard(0, 8))
    with pytest.raises(EmtError, match="row 7") as told:
        base.raise_told(tmp_path, 3)
    assert (told.value.where, told.value.remedy) == ("pool", "mend it")


def test_a_stage_that_cannot_use_several_processes_says_so():
    said: list[str] = []
    for stage in ("category", "finetune"):
        context = SimpleNamespace(
            runtime=Runtime(processes=3), progress=SimpleNamespace(say=said.append)
        )
        base.make_shards(stage, "k", stage, context)  # type: ignore[arg-type]
    assert all(line.startswith("runtime.processes is 3: ") for line in said)
    assert "one process goes on" in said[0] and "runtime.training_processes" in said[1]
    context.runtime = Runtime()
    base.make_shards("category", "k", "category", context)  # type: ignore[arg-type]
    assert len(said) == 2


def test_how_many_actors_a_cluster_is_worth():
    here = Runtime(engine="ray", ray=Ray(cpus=4))
    there = Runtime(engine="ray", ray=Ray(address="auto"))
    assert ray._worth(here, {"CPU": 16, "GPU": 2}, 0) == 4
    assert ray._worth(there, {"CPU": 16, "GPU": 8}, 1) == 16  # half of them wait for nodes
    assert ray._worth(there, {"CPU": 16, "GPU": 8}, 0.5) == 32
    assert ray._worth(there, {"CPU": 1}, 1) == ray.SPARE
    with pytest.raises(EmtError, match="no room for a worker of 4 cores and 0 GPUs"):
        ray._worth(here, {"CPU": 2}, 0)


def test_who_trains_under_torchrun(monkeypatch):
    """No GPU is here: what torch would say of four stands in its place."""
    monkeypatch.delenv(LAUNCHED, raising=False)

    def ranks(stage: str = "midtrain", **settings) -> int:
        recipe = SimpleNamespace(runtime=Runtime(**settings), file="recipe.yaml")
        return ranks_of(stage, recipe)  # type: ignore[arg-type]

    assert ranks(device="cpu") == 0
    assert ranks(device="cpu", training_processes=2) == 2
    assert ranks(engine="slurm", slurm=Slurm(gpus=8)) == 8
    assert ranks("embed", engine="slurm", slurm=Slurm(gpus=8)) == 0
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert (ranks(), ranks(device="cuda:1"), ranks(training_processes=1)) == (4, 0, 0)
    monkeypatch.setenv(LAUNCHED, "1")
    assert ranks() == 0
