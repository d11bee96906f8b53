"""Runs in the background: launched, watched, cancelled, resumed through the files of job_record.py.

A job is the same `emt run` that a person would type, so the app can die or restart without losing
it, and running a cancelled or lost job again resumes the stage at its last commit. Runs started in
a terminal are jobs as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import psutil

from emt_core.errors import EmtError
from emt_core.run.engines.base import worker_states
from emt_core.run.job_folder import asked_for, forget, new_job
from emt_core.workspace import process as process_mark
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.clock import within
from emt_core.workspace.files import read_json_if_there, write_json
from emt_core.workspace.job_record import HEARTBEAT_S

JobState = Literal["starting", "running", "stopping", "done", "failed", "cancelled", "lost"]
ACTIVE: tuple[JobState, ...] = ("starting", "running", "stopping")
STARTING_S = 20.0
"""A job without a process counts as starting for this long after its launch."""

GRACE_S = 10.0
"""How long a job that was asked to stop is left to do so before killing it is offered."""

LOG_TAIL_BYTES = 64 * 1024
LOG_MOST_BYTES = 20 * 2**20
REMOVED = {"title": "a removed job", "command": [], "launched": 0.0}
"""What stands for job.json where a job was removed while somebody still looks at it."""


@dataclass(frozen=True)
class Job:
    workspace: Workspace
    id: str

    @property
    def path(self) -> Path:
        return self.workspace.path / "jobs" / self.id

    @cached_property
    def asked(self) -> dict[str, Any]:
        """`title command launched` (epoch); of a run also `recipe until start overrides origin`."""
        return self._read("job.json") or REMOVED

    @property
    def state(self) -> JobState:
        if self.end is None:
            cancelled = self._cancel is not None
            if self._lives():
                begun = (self.path / "progress.json").exists()
                return "stopping" if cancelled else "running" if begun else "starting"
            has_process = (self.path / "process.json").exists()
            if self.end is None:  # read again: it may have ended since the first look
                new = within(self.asked["launched"], STARTING_S)
                if cancelled:
                    return "cancelled"
                return "starting" if new and not has_process else "lost"
        code = (self.end or {"code": 1})["code"]
        if code == 0:
            return "done"
        return "cancelled" if self._cancel is not None or code == 130 else "failed"

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def end(self) -> dict[str, Any] | None:
        """`code` (0 done, 2 a problem the user can mend, 130 stopped), `at` and `seconds`.

        None while it runs or if it was killed.
        """
        return self._read("end.json")

    @property
    def seconds(self) -> float:
        """Time from launch to its end, or to the last sign of life of one that was killed."""
        if (end := self.end) is not None:
            if "seconds" in end:
                return end["seconds"]
            until = end["at"]
        elif self.active:
            mark = self._read("process.json")
            if mark is not None and (age := process_mark.age(mark)) is not None:
                return age
            until = time.time()
        else:
            until = max((_modified(path) for path in self.path.glob("*")), default=0.0)
        return max(until - self.asked["launched"], 0.0)

    @property
    def instances(self) -> list[dict[str, Any]]:
        """`label stage key state` of each instance it runs, in order; empty before it planned."""
        progress = self._read("progress.json")
        return progress["instances"] if progress else []

    @property
    def current(self) -> dict[str, Any] | None:
        """The instance it builds or waits for."""
        return next((i for i in self.instances if i["state"] in ("building", "waiting")), None)

    @property
    def progress(self) -> dict[str, Any] | None:
        """`doing done total unit rate seconds_left at` of the current instance."""
        if (now := self.current) is None:
            return None
        building = self.workspace.building(now["stage"], now["key"])
        return read_json_if_there(building / "progress.json")

    @property
    def workers(self) -> list[dict[str, Any]]:
        """The state of each worker at the current instance; empty where one process makes it."""
        if (now := self.current) is None:
            return []
        return worker_states(self.workspace.building(now["stage"], now["key"]))

    @property
    def can_be_killed(self) -> bool:
        """It was asked to stop, and has not for GRACE_S."""
        cancel = self._cancel
        waited = cancel is not None and not within(cancel["at"], GRACE_S)
        return waited and self.state == "stopping"

    def log_tail(self, lines: int = 200) -> str:
        """The last lines of the log; reads at most 64 KiB of it."""
        return "\n".join(self._log(LOG_TAIL_BYTES).splitlines()[-lines:])

    def whole_log(self) -> str:
        """The log for a download; of a huge one the last 20 MB."""
        return self._log(LOG_MOST_BYTES)

    def cancel(self, *, hard: bool = False) -> None:
        """Ask the job to stop (SIGTERM: what it committed stays), or kill it and all its children.

        Raises EmtError in a read-only workspace, and where the job runs on another machine.
        """
        self.workspace.check_writable()
        if self.end is not None:
            return
        mark = self._read("process.json")
        if mark is not None and not process_mark.here(mark) and self._lives():
            raise EmtError(
                "the job runs on another machine", where=mark.get("host"), remedy="stop it there"
            )
        write_json(self.path / "cancel.json", {"at": time.time(), "hard": hard})
        process = process_mark.find(mark) if mark else None
        if process is None:
            return
        if not hard:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)
            return
        members = process_mark.family(process)
        for member in members:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(members, timeout=3)

    def _log(self, most: int) -> str:
        try:
            with (self.path / "log.txt").open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(file.tell() - most, 0))
                return file.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def _lives(self) -> bool:
        mark = self._read("process.json")
        if mark is None:
            return False
        if process_mark.here(mark) or "host" not in mark:
            return process_mark.find(mark) is not None
        with suppress(FileNotFoundError):
            return within((self.path / "alive").stat().st_mtime, 4 * HEARTBEAT_S)
        return False

    @property
    def _cancel(self) -> dict[str, Any] | None:
        return self._read("cancel.json")

    def _read(self, name: str) -> Any:
        """One of the job's JSON files; None where it is not there."""
        return read_json_if_there(self.path / name)


def launch(
    workspace: Workspace,
    recipe: Path,
    *,
    until: str | None = None,
    start: str | None = None,
    overrides: Iterable[str] = (),
    title: str = "",
) -> Job:
    """Start `emt run` in a process of its own that outlives this one.

    Two different commands that want the same artifact are both started: the second waits for it.
    Raises EmtError as `launch_command`.
    """
    asked = asked_for(
        workspace,
        recipe,
        until=until,
        start=start,
        overrides=list(overrides),
        title=title,
        origin="app",
    )
    return launch_command(workspace, **asked)


def launch_command(workspace: Workspace, command: list[str], *, title: str, **notes: Any) -> Job:
    """Start any `emt` command line (without the leading `emt`); `notes` go into job.json as well.

    Raises EmtError where a job of the same command line is active, or the workspace is open for
    viewing only.
    """
    workspace.check_writable()
    with workspace.lock("jobs", "launch"):  # of two at the same moment, the second sees the first
        for job in active_jobs(workspace):
            if job.asked["command"] == command:
                at = time.strftime("%H:%M:%S", time.localtime(job.asked["launched"]))
                raise EmtError(
                    f"this is already running: {job.asked['title']!r}, launched at {at}",
                    where=f"job {job.id}",
                    remedy="wait for it, or cancel it first",
                )
        folder = new_job(workspace, {**notes, "title": title, "command": command})
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "emt_core.cli", "job", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        with suppress(psutil.NoSuchProcess):
            write_json(folder / "process.json", process_mark.mark_of(process.pid))
    # whoever launched it reaps it, else each finished job stays as a zombie until the server ends
    threading.Thread(target=process.wait, daemon=True).start()
    return Job(workspace, folder.name)


def run_again(job: Job) -> Job:
    """Launch the same command once more: what was committed is found, not made again.

    Raises EmtError where a job of this command is active, or its recipe is gone.
    """
    asked = {name: value for name, value in job.asked.items() if name != "launched"}
    recipe = asked.get("recipe")
    if recipe and not Path(recipe).is_file():
        raise EmtError(
            "the recipe of this job is gone", where=recipe, remedy="launch it from the Overview"
        )
    return launch_command(job.workspace, **{**asked, "origin": "app"})


def remove(job: Job) -> None:
    """Remove an ended job with its log; what it made stays. Raises EmtError while it is active."""
    job.workspace.check_writable()
    if job.active:
        raise EmtError("the job is still running", where=f"job {job.id}", remedy="cancel it first")
    forget(job.path)


def remove_finished(workspace: Workspace) -> int:
    """Remove every job that has ended; returns how many."""
    workspace.check_writable()
    ended = [job for job in list_jobs(workspace) if not job.active]
    for job in ended:
        remove(job)
    return len(ended)


def list_jobs(workspace: Workspace) -> list[Job]:
    """All jobs, newest first. Reads names only; what a job's files hold is read when asked for."""
    names = (path.parent.name for path in workspace.path.glob("jobs/[!.]*/job.json"))
    return [Job(workspace, name) for name in sorted(names, reverse=True)]


def active_jobs(workspace: Workspace) -> list[Job]:
    """Those that run now, newest first."""
    return [
        job for job in list_jobs(workspace) if not (job.path / "end.json").exists() and job.active
    ]


def builder_of(workspace: Workspace, stage: str, key: str, *, but: Job | None = None) -> Job | None:
    """The active job that builds this artifact right now."""
    for job in active_jobs(workspace):
        now = job.current if job != but else None
        if now is not None and (now["stage"], now["key"], now["state"]) == (stage, key, "building"):
            return job
    return None


def last_job_of(workspace: Workspace, stage: str, key: str, *, most: int = 100) -> Job | None:
    """The newest job (of the last `most`) that built this artifact, or tried to."""
    worked = ("building", "made", "failed")
    for job in list_jobs(workspace)[:most]:
        for entry in job.instances:
            if (entry["stage"], entry["key"]) == (stage, key) and entry["state"] in worked:
                return job
    return None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
