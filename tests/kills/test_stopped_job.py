"""Stop, as the app's button does it, while others work for the run: submitit's jobs, torchrun's
ranks. All of them end, what was done is kept, and the same command goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from places import ROOT
from small_world import small_world
from tiny_models import save_internvl

from emt_core.run.jobs import Job, list_jobs
from emt_core.run.shards import done_shards
from emt_core.training.steps_log import iterate_steps
from emt_core.workspace.artifact import Workspace

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

ENDS_WITHIN_S = 60.0
SLURM = ("runtime.engine=slurm", "runtime.slurm.cluster=local", "runtime.slurm.gpus=0")
RANKS = ("runtime.device=cpu", "runtime.training_processes=2")
RECIPE = """
name: stopped
backbone: model
runtime: {workers: 0, commit_rows: 8, batch: 4}
sources: [{name: web, role: pool, format: llava, path: web/web.json, image_root: images}]
embed: {encoder: vlm, model: model, pooling: mean}
select: {strategy: random, k: 40, include_text_only: true}
midtrain: {steps: 5000, batch: 4, cutoff: 160, max_images: 2}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_world(tmp_path_factory.mktemp("world"), episodes=2, pool_rows=64)
    save_internvl(folder / "model")
    (folder / "stopped.yaml").write_text(RECIPE)
    return folder


def command(world: Path, workspace: Path, until: str, *settings: str) -> list[str]:
    line = [sys.executable, "-m", "emt_core.cli", "run", str(world / "stopped.yaml")]
    line += ["-w", str(workspace), "--until", until]
    return [*line, *(word for item in settings for word in ("--set", item))]


@contextmanager
def running(line: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run in a session of its own, of which nothing stays behind whatever the test finds."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            line,
            stdout=out,
            stderr=out,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    family: list[psutil.Process] = []
    try:
        yield process
    finally:
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            process.kill()
        for member in family:
            if member.is_running():
                member.kill()
        process.wait()


def wait_for(found: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while not found():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes], workspace: Path) -> Job:
    """Press Stop; returns the job when its process and all that worked for it are gone."""
    (job,) = list_jobs(Workspace.open(workspace))
    family = psutil.Process(process.pid).children(recursive=True)
    assert family, "nobody works for the run"
    job.cancel()
    assert process.wait(ENDS_WITHIN_S) == 130
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive, [member.cmdline() for member in alive]
    return job


def building(workspace: Path, stage: str) -> Path:
    return next(iter(workspace.glob(f"{stage}/*.building/data")), workspace / "none")


def test_submitted_jobs_are_cancelled_and_their_shards_kept(world: Path, tmp_path: Path):
    workspace, log = tmp_path / "w", tmp_path / "log.txt"
    line = command(world, workspace, "embed", *SLURM, "runtime.processes=2")
    with running(line, log) as process:
        wait_for(lambda: done_shards(building(workspace, "embed")), process, log)
        job = stop(process, workspace)
    assert job.state == "cancelled"
    said = log.read_text()
    assert "what was committed is kept" in said and "Traceback" not in said, said[-3000:]
    kept = done_shards(building(workspace, "embed"))
    rows = sum(shard.rows for shard in kept)
    assert 0 < rows < 64
    done = subprocess.run(command(world, workspace, "embed"), cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (artifact,) = Workspace.open(workspace).artifacts("embed")
    assert artifact.rows == 64 and artifact.metrics["embedded_rows"] == 64 - rows


def test_torchruns_ranks_end_with_the_run_that_started_them(world: Path, tmp_path: Path):
    workspace, log = tmp_path / "w", tmp_path / "log.txt"
    line = command(world, workspace, "midtrain", *RANKS)
    steps = workspace / "none"

    def trains() -> bool:
        nonlocal steps
        steps = building(workspace, "midtrain") / "steps.jsonl"
        return steps.is_file() and len(steps.read_bytes().splitlines()) >= 3

    with running(line, log) as process:
        wait_for(trains, process, log)
        ranks = psutil.Process(process.pid).children(recursive=True)
        assert sum("emt_core.cli" in " ".join(one.cmdline()) for one in ranks) >= 2
        job = stop(process, workspace)
    assert job.state == "cancelled"
    assert "what was committed is kept" in log.read_text()
    assert [record["step"] for record in iterate_steps(steps)][:3] == [1, 2, 3]
    assert not (steps.parents[1] / "failure.json").exists()  # Stop is no failure
    states = json.loads((job.path / "progress.json").read_text())["instances"]
    assert states[-1]["stage"] == "midtrain" and states[-1]["state"] == "building"
