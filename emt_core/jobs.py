"""Stages run in the background: launched, watched, cancelled and resumed through files alone.

    <workspace>/jobs/<id>/job.json      what was asked: the command line, written before the process starts
    <workspace>/jobs/<id>/process.json  pid and start time of the process that runs it
    <workspace>/jobs/<id>/log.txt       everything it printed
    <workspace>/jobs/<id>/end.json      exit code, written at the end; absent while it runs or if it was killed

A job is the same `emt run` that a person would type, so the app can die or restart without losing it, and running a
cancelled or lost job again resumes the stage at its last commit.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import psutil

from emt_core.artifact import Workspace, read_json, write_json
from emt_core.errors import EmtError

JobState = Literal["starting", "running", "done", "failed", "cancelled", "lost"]
STARTING_S = 20.0
LOG_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Job:
    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @cached_property
    def asked(self) -> dict[str, Any]:
        """`title`, `command`, `until`, `recipe`, `launched` (seconds since the epoch)."""
        return read_json(self.path / "job.json")

    @property
    def state(self) -> JobState:
        end = self._end
        if end is not None:
            if end["code"] == 0:
                return "done"
            return "cancelled" if self._cancel_asked else "failed"
        if self._process is not None:
            return "running"
        if self._cancel_asked:
            return "cancelled"
        if (self.path / "process.json").exists():
            return "lost"
        return "starting" if time.time() - self.asked["launched"] < STARTING_S else "lost"

    @property
    def active(self) -> bool:
        return self.state in ("starting", "running")

    @property
    def seconds(self) -> float:
        """Time since launch, up to its end where that is known."""
        end = self._end
        return (end["at"] if end else time.time()) - self.asked["launched"]

    def log_tail(self, lines: int = 200) -> str:
        """The last lines of the log; reads at most 64 KiB of it."""
        try:
            with (self.path / "log.txt").open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(file.tell() - LOG_TAIL_BYTES, 0))
                text = file.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def cancel(self, *, hard: bool = False) -> None:
        """Ask the job to stop (SIGTERM: what it committed stays), or kill it and all its children."""
        write_json(self.path / "cancel.json", {"at": time.time(), "hard": hard})
        process = self._process
        if process is None:
            return
        try:
            family = [process, *process.children(recursive=True)] if hard else [process]
            for member in family:
                member.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
        except psutil.NoSuchProcess:
            return

    @property
    def _cancel_asked(self) -> bool:
        return (self.path / "cancel.json").exists()

    @property
    def _end(self) -> dict[str, Any] | None:
        path = self.path / "end.json"
        return read_json(path) if path.exists() else None

    @property
    def _process(self) -> psutil.Process | None:
        """The live process, told from a stranger with a reused pid by its start time."""
        path = self.path / "process.json"
        if not path.exists():
            return None
        facts = read_json(path)
        try:
            process = psutil.Process(facts["pid"])
            alive = abs(process.create_time() - facts["created"]) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


def launch(
    workspace: Workspace,
    recipe: Path,
    *,
    until: str | None = None,
    start: str | None = None,
    overrides: Iterable[str] = (),
    title: str = "",
) -> Job:
    """Start `emt run` in a process of its own that outlives this one. Refuses a twin of a job that is still active."""
    command = ["run", str(recipe), "--workspace", str(workspace.path)]
    command += ["--until", until] if until else []
    command += ["--from", start] if start else []
    for item in overrides:
        command += ["--set", item]
    return launch_command(
        workspace, command, title=title or f"Run {until or 'all stages'}", until=until, recipe=str(recipe)
    )


def launch_command(workspace: Workspace, command: list[str], *, title: str, **facts: Any) -> Job:
    """Start any `emt` command line (without the leading `emt`) as a job; `facts` go into job.json beside it.

    Raises EmtError where the same command line is already running or the workspace is open for viewing only.
    """
    workspace.check_writable()
    for job in list_jobs(workspace):
        if job.active and job.asked["command"] == command:
            raise EmtError("this is already running", where=f"job {job.id}", remedy="wait for it, or cancel it first")
    folder = workspace.path / "jobs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    folder.mkdir(parents=True)
    asked = {"until": None, "recipe": None, **facts, "title": title, "command": command, "launched": time.time()}
    write_json(folder / "job.json", asked)
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "emt_core.jobs", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # whoever launched it reaps it, else each finished job stays as a zombie until the server ends
    threading.Thread(target=process.wait, daemon=True).start()
    return Job(folder)


def list_jobs(workspace: Workspace) -> list[Job]:
    """All jobs, newest first."""
    return sorted((Job(p.parent) for p in workspace.path.glob("jobs/*/job.json")), key=lambda job: job.id, reverse=True)


def _run(folder: Path) -> int:
    """Inside the job's own process: run the command line it was asked for and leave its exit code."""
    me = psutil.Process()
    write_json(folder / "process.json", {"pid": me.pid, "created": me.create_time()})
    from emt_core.cli import main

    code = 1
    try:
        code = main(read_json(folder / "job.json")["command"])
    finally:
        write_json(folder / "end.json", {"code": code, "at": time.time()})
    return code


if __name__ == "__main__":
    sys.exit(_run(Path(sys.argv[1])))
