"""Jobs as real processes: watched through files, cancelled, killed, lost, found again; two at once;
from a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from small_world import small_world

from emt_core.errors import EmtError
from emt_core.run.job_folder import new_job
from emt_core.run.jobs import (
    Job,
    active_jobs,
    builder_of,
    last_job_of,
    launch,
    launch_command,
    list_jobs,
    remove,
    remove_finished,
    run_again,
)
from emt_core.workspace import process as process_mark
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json, write_json

SLOW = [
    "estimator.steps=1000000",
    "estimator.stop_accuracy=1.0",
    "estimator.learning_rate=1e-9",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world"), pool_rows=40, episodes=12)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    space = Workspace.open(tmp_path / "w", create=True)
    yield space
    for job in active_jobs(space):  # a failed test leaves no process behind
        if read_json(job.path / "process.json")["pid"] != os.getpid():
            job.cancel(hard=True)


def wait(job: Job, reached: Callable[[Job], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not reached(job):
        assert time.monotonic() < deadline, f"{job.state}\n{job.log_tail()}"
        time.sleep(0.1)


def ended(job: Job) -> bool:
    return not job.active


def estimating(job: Job) -> bool:
    now, progress = job.current, job.progress
    at_work = (
        now is not None
        and now["stage"] == "estimator"
        and progress is not None
        and progress["done"] > 0
    )
    return at_work or ended(job)


def test_a_job_runs_to_its_end_and_is_put_away(world, workspace):
    job = launch(workspace, world / "recipe.yaml", until="category", title="Read the sources")
    wait(job, ended)
    assert job.state == "done", job.log_tail()
    assert job.end and job.end["code"] == 0 and job.seconds > 0
    assert "sources" in job.log_tail() and "done" in job.log_tail()
    assert [j.id for j in list_jobs(workspace)] == [job.id]
    assert list_jobs(workspace)[0].asked["title"] == "Read the sources"
    made = workspace.artifacts("sources")
    assert [(i["stage"], i["state"]) for i in job.instances] == [
        ("sources", "made"),
        ("category", "made"),
    ]
    assert last_job_of(workspace, "sources", made[0].key) == job
    assert job.current is None and job.progress is None
    again = run_again(job)
    wait(again, ended)
    assert {i["state"] for i in again.instances} == {"found"}
    assert remove_finished(workspace) == 2
    assert list_jobs(workspace) == [] and len(workspace.artifacts("sources")) == 1


def test_a_failing_job_says_why(world, workspace):
    job = launch(workspace, world / "recipe.yaml", overrides=["sources.web.path=nowhere.json"])
    wait(job, ended)
    assert job.state == "failed" and job.end and job.end["code"] == 2
    assert "nowhere.json" in job.log_tail() and "Traceback" not in job.log_tail()


def test_twins_are_refused_others_wait_and_cancel_is_graceful(world, workspace):
    """One busy job sees it all: a twin, two twins at the same moment, a different command that
    wants the same."""
    recipe = world / "recipe.yaml"
    results: list[Job | EmtError] = []

    def try_to_launch() -> None:
        try:
            results.append(
                launch(workspace, recipe, until="estimator", overrides=SLOW, title="The first")
            )
        except EmtError as error:
            results.append(error)

    threads = [threading.Thread(target=try_to_launch) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    [job] = [result for result in results if isinstance(result, Job)]
    for refusal in (result for result in results if isinstance(result, EmtError)):
        assert "already running: 'The first'" in refusal.what and job.id in refusal.where

    wait(job, estimating)
    assert job.state == "running"
    other = launch(workspace, recipe, until="score", overrides=SLOW)
    wait(other, lambda j: j.current is not None and j.current["state"] == "waiting")
    assert other.current and other.current["stage"] == "estimator" and "waiting" in other.log_tail()
    now = job.current
    assert now is not None
    assert builder_of(workspace, "estimator", now["key"], but=other) == job
    with pytest.raises(EmtError, match="still running"):
        remove(job)
    other.cancel()
    wait(other, ended, 60)
    assert other.state == "cancelled" and job.active

    job.cancel()
    wait(job, ended, 60)
    assert job.state == "cancelled" and job.end and job.end["code"] == 130
    assert "stopped" in job.log_tail() and "Traceback" not in job.log_tail()
    assert len(workspace.artifacts("embed")) == 1  # what was done stays
    assert workspace.artifacts("estimator") == []


def test_a_killed_job_is_lost_and_goes_on_when_run_again(world, workspace):
    job = launch(workspace, world / "recipe.yaml", until="estimator", overrides=SLOW)
    wait(job, estimating)
    os.kill(read_json(job.path / "process.json")["pid"], signal.SIGKILL)
    wait(job, ended, 10)
    assert job.state == "lost" and job.end is None, job.log_tail()
    again = launch(workspace, world / "recipe.yaml", until="estimator")
    wait(again, ended)
    assert again.state == "done", again.log_tail()
    states = {i["stage"]: i["state"] for i in again.instances}
    assert states == {"sources": "found", "embed": "found", "estimator": "made"}


STUBBORN = """
import signal, subprocess, sys, time
from emt_core.workspace.files import write_json
from emt_core.workspace import job_record
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleeper = "import time; time.sleep(600)"
with job_record.JobRecord(Path(sys.argv[1]), keep_log=False).held() as record:
    record.planned([])
    child = subprocess.Popen([sys.executable, "-c", sleeper])
    line = f"'{sys.executable}' -c '{sleeper}' >/dev/null 2>&1 & echo $!"
    orphan = subprocess.run(["sh", "-c", line], capture_output=True)
    write_json(Path(sys.argv[1]) / "children.json", [child.pid, int(orphan.stdout)])
    time.sleep(600)
"""


def test_a_stubborn_job_is_killed_with_all_it_started(workspace, monkeypatch):
    folder = new_job(workspace, {"title": "", "command": []})
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(folder)], start_new_session=True
    )
    threading.Thread(target=process.wait, daemon=True).start()
    job = Job(workspace, folder.name)
    wait(job, lambda j: (j.path / "children.json").exists(), 60)
    children = read_json(folder / "children.json")
    job.cancel()
    assert job.state == "stopping" and job.active
    monkeypatch.setattr("emt_core.run.jobs.GRACE_S", 1e6)
    assert not job.can_be_killed
    monkeypatch.setattr("emt_core.run.jobs.GRACE_S", 0.0)
    assert job.can_be_killed
    job.cancel(hard=True)
    wait(job, ended, 20)
    assert job.state == "cancelled"
    for pid in children:  # the orphan was nobody's child any more, but of the same session
        wait(
            job,
            lambda _, pid=pid: (
                not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
            ),
            20,
        )


def old_job(workspace: Workspace, **mark: object) -> Job:
    folder = new_job(workspace, {"title": "", "command": []})
    write_json(folder / "process.json", {**process_mark.mark_of(os.getpid()), **mark})
    return Job(workspace, folder.name)


def test_a_reused_pid_or_another_boot_is_no_running_job(workspace):
    assert old_job(workspace).state == "starting"  # this very process
    assert old_job(workspace, started=1.0).state == "lost"
    assert old_job(workspace, boot="an earlier one").state == "lost"
    assert old_job(workspace, pid=2**22 - 1).state == "lost"


def test_a_job_of_another_machine_is_seen_but_not_signalled(workspace):
    job = old_job(workspace, host="elsewhere", boot="theirs")
    assert job.state == "lost"
    (job.path / "alive").touch()
    assert job.state == "starting"
    with pytest.raises(EmtError, match="another machine"):
        job.cancel()


def test_viewers_change_nothing(world, workspace):
    job = old_job(workspace)
    viewed = Workspace(workspace.path, read_only=True)
    before = sorted(workspace.path.rglob("*"))
    for refused in (
        lambda: launch(viewed, world / "recipe.yaml"),
        lambda: launch_command(viewed, ["status"], title=""),
        Job(viewed, job.id).cancel,
        lambda: Job(viewed, job.id).cancel(hard=True),
        lambda: remove(Job(viewed, job.id)),
        lambda: remove_finished(viewed),
        lambda: new_job(viewed, {}),
    ):
        with pytest.raises(EmtError, match="viewing only"):
            refused()
    assert sorted(workspace.path.rglob("*")) == before


def test_a_run_from_a_terminal_is_a_job_too(world, workspace, capsys):
    from emt_core.cli.__main__ import main

    command = ["sources", str(world / "recipe.yaml"), "--workspace", str(workspace.path)]
    assert main(["run", *command[1:], "--until", "sources"]) == 0
    [job] = list_jobs(workspace)
    assert (
        job.state == "done"
        and job.asked["origin"] == "terminal"
        and job.asked["until"] == "sources"
    )
    assert "sources" in job.log_tail() and "done" in job.log_tail()
    assert (
        main(["run", *command[1:], "--until", "sources"]) == 0
    )  # all found: nothing worth a record
    assert list_jobs(workspace) == [job]
    assert (
        main(
            ["embed", *command[1:], "--set", "embed.encoder=vlm", "--set", "embed.model=none/such"]
        )
        == 2
    )
    assert len(list_jobs(workspace)) == 1  # it could not even be planned


def test_a_run_of_a_recipe_of_ours_can_be_run_again(workspace, monkeypatch, tmp_path):
    """From any folder: the record names the file, not the name as it was typed."""
    from emt_core.cli import __main__ as cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("emt_core.run.runner.run_plan", lambda *_, **__: {})
    cli.main(["run", "demo_train", "--workspace", str(workspace.path), "--until", "sources"])
    assert list_jobs(workspace) == []  # nothing was made: put away
    asked: list[dict] = []
    monkeypatch.setattr(
        "emt_core.run.job_folder.new_job",
        lambda _, found: asked.append(found) or tmp_path / "job",
    )
    cli.main(["run", "demo_train", "--workspace", str(workspace.path), "--until", "sources"])
    [found] = asked
    assert Path(found["recipe"]).is_file() and found["recipe"].endswith("recipes/demo_train.yaml")
    assert found["title"] == "demo_train: up to sources"


def test_sources_with_a_workspace_is_a_job_too(world, workspace):
    from emt_core.cli.__main__ import main

    assert main(["sources", str(world / "recipe.yaml"), "--workspace", str(workspace.path)]) == 0
    [job] = list_jobs(workspace)
    assert job.asked["until"] == "sources" and job.state == "done"


def test_a_job_that_is_removed_meanwhile_is_lost_and_listed_no_more(workspace):
    job = old_job(workspace, pid=2**22 - 1)
    held = Job(workspace, job.id)
    remove(job)
    assert held.state == "lost" and not held.active and held.seconds == 0.0
    assert held.asked["title"] == "a removed job" and held.log_tail() == "" and held.instances == []
    assert list_jobs(workspace) == [] and active_jobs(workspace) == []
    assert not list((workspace.path / "jobs").iterdir())
    half = workspace.path / "jobs" / ".removed-x"
    half.mkdir()
    (half / "job.json").write_text("{}")
    assert list_jobs(workspace) == []  # one whose files are still being deleted


def test_a_process_that_dies_while_it_is_looked_at_is_gone(monkeypatch):
    mark = process_mark.mark_of(os.getpid())

    def died(*_: object, **__: object) -> str:
        raise ProcessLookupError

    looks = iter((psutil.Process(),))

    def look(pid: int) -> psutil.Process:
        process = next(looks, None)
        if process is None:
            raise psutil.NoSuchProcess(pid)
        return process

    process_mark._boot()
    monkeypatch.setattr(Path, "read_text", died)
    monkeypatch.setattr(psutil, "Process", look)
    assert process_mark.find(mark) is None and next(looks, None) is None


def test_the_log_is_bounded(workspace, monkeypatch):
    job = old_job(workspace)
    (job.path / "log.txt").write_text("line\n" * 100_000)
    assert len(job.log_tail(50).splitlines()) == 50
    assert len(job.log_tail(10**9)) <= 64 * 1024
    assert len(job.whole_log()) == 500_000
    monkeypatch.setattr("emt_core.run.jobs.LOG_MOST_BYTES", 1000)
    assert len(job.whole_log()) == 1000
