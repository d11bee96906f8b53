"""Jobs as real processes: watched through files, cancelled, lost, found again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_world import small_world

from emt_core.artifact import Workspace, read_json
from emt_core.errors import EmtError
from emt_core.jobs import Job, launch, list_jobs

SLOW = ["estimator.max_steps=1000000", "estimator.stop_accuracy=1.0", "estimator.learning_rate=1e-9"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world"), pool_rows=40, episodes=12)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    space = Workspace.open(tmp_path / "w", create=True)
    yield space
    for job in list_jobs(space):  # a failed test leaves no process behind
        job.cancel(hard=True)


def wait(job: Job, reached: Callable[[Job], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not reached(job):
        assert time.monotonic() < deadline, f"{job.state}\n{job.log_tail()}"
        time.sleep(0.1)


def estimating(job: Job) -> bool:
    building = Workspace(job.path.parents[1]).path.glob("estimator/*.building/progress.json")
    return any(read_json(path)["done"] > 0 for path in building) or not job.active


def test_a_job_runs_to_its_end_and_its_log_can_be_read(world, workspace):
    job = launch(workspace, world / "recipe.yaml", until="sources", title="Read the sources")
    wait(job, lambda j: not j.active)
    assert job.state == "done", job.log_tail()
    assert "sources" in job.log_tail() and "done" in job.log_tail()
    assert [j.id for j in list_jobs(workspace)] == [job.id]
    assert list_jobs(workspace)[0].asked["title"] == "Read the sources"
    assert len(workspace.artifacts("sources")) == 1


def test_a_failing_job_says_why(world, workspace):
    job = launch(workspace, world / "recipe.yaml", overrides=["sources.web.path=nowhere.json"])
    wait(job, lambda j: not j.active)
    assert job.state == "failed"
    assert "nowhere.json" in job.log_tail() and "Traceback" not in job.log_tail()


def test_a_twin_of_a_running_job_is_refused_and_cancel_is_graceful(world, workspace):
    job = launch(workspace, world / "recipe.yaml", until="estimator", overrides=SLOW)
    wait(job, estimating)
    assert job.state == "running"
    with pytest.raises(EmtError, match="already running"):
        launch(workspace, world / "recipe.yaml", until="estimator", overrides=SLOW)
    job.cancel()
    wait(job, lambda j: not j.active, 60)
    assert job.state == "cancelled"
    assert "stopped" in job.log_tail() and "Traceback" not in job.log_tail()
    assert len(workspace.artifacts("embed")) == 1  # what was done stays
    assert workspace.artifacts("estimator") == []


def test_a_hard_cancel_kills_at_once(world, workspace):
    job = launch(workspace, world / "recipe.yaml", until="estimator", overrides=SLOW)
    wait(job, estimating)
    job.cancel(hard=True)
    wait(job, lambda j: not j.active, 10)
    assert job.state == "cancelled"


def test_a_killed_job_is_lost_and_running_it_again_goes_on(world, workspace):
    job = launch(workspace, world / "recipe.yaml", until="estimator", overrides=SLOW)
    wait(job, estimating)
    os.kill(read_json(job.path / "process.json")["pid"], signal.SIGKILL)
    wait(job, lambda j: not j.active, 10)
    assert job.state == "lost"
    again = launch(workspace, world / "recipe.yaml", until="estimator")
    wait(again, lambda j: not j.active)
    assert again.state == "done", again.log_tail()
    assert len(workspace.artifacts("embed")) == 1


def test_a_reused_pid_is_no_running_job(workspace):
    folder = workspace.path / "jobs" / "20260101-000000-aaaaaa"
    folder.mkdir(parents=True)
    from emt_core.artifact import write_json

    write_json(folder / "job.json", {"title": "", "command": [], "launched": 0.0, "until": None, "recipe": ""})
    write_json(folder / "process.json", {"pid": os.getpid(), "created": 1.0})
    assert Job(folder).state == "lost"


def test_the_log_tail_is_bounded(workspace):
    folder = workspace.path / "jobs" / "x"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("line\n" * 100_000)
    assert len(Job(folder).log_tail(50).splitlines()) == 50
    assert len(Job(folder).log_tail(10**9)) <= 64 * 1024
