"""What a process that runs a recipe notes about itself, so that everybody else can see it: one folder of the workspace.

    <workspace>/jobs/<id>/job.json       what was asked: recipe, until, overrides; from the app or from a terminal
    <workspace>/jobs/<id>/process.json   the process that does it (process_mark.py)
    <workspace>/jobs/<id>/progress.json  its instances, each with its state; the one at work is the current one
    <workspace>/jobs/<id>/log.txt        everything it printed (from a terminal: what it reported)
    <workspace>/jobs/<id>/alive          touched while it lives, for machines that cannot see the process
    <workspace>/jobs/<id>/cancel.json    somebody asked it to stop
    <workspace>/jobs/<id>/end.json       exit code, written at the end; absent while it runs or if it was killed

How far the current instance has come stands in its own building folder: only the process that holds its lock writes
there, so a job's progress is never another's.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, Protocol

from emt_core.errors import EmtError
from emt_core.workspace.artifact import Workspace, write_json
from emt_core.workspace.process import mark_of

WorkState = Literal["todo", "waiting", "building", "made", "found", "failed"]
"""waiting: another process builds it. found: it was there already."""

HEARTBEAT_S = 15.0
_current: ContextVar[JobRecord | None] = ContextVar("job_record", default=None)


class Work(Protocol):
    """An instance of a plan, as far as a record knows it."""

    @property
    def label(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def key(self) -> str: ...


class JobRecord:
    """The folder of the job that this process does. Its methods never fail: a full disk stops the stage, not a note."""

    def __init__(self, folder: Path, *, keep_log: bool) -> None:
        self.folder, self.keep_log = folder, keep_log
        self.instances: list[dict[str, Any]] = []
        self._stop = threading.Event()

    def planned(self, instances: Iterable[Work]) -> None:
        self.instances = [
            {"label": i.label, "stage": i.stage, "key": i.key, "state": "todo"} for i in instances
        ]
        self._write()

    def note(self, instance: Work, state: WorkState) -> None:
        for entry in self.instances:
            if (entry["stage"], entry["key"]) == (instance.stage, instance.key):
                entry.update(state=state, at=time.time())
        self._write()

    def say(self, line: str) -> None:
        if self.keep_log:
            with suppress(OSError), (self.folder / "log.txt").open("a", encoding="utf-8") as log:
                log.write(line + "\n")

    def end(self, code: int) -> None:
        with suppress(OSError):
            write_json(self.folder / "end.json", {"code": code, "at": time.time()})

    @contextmanager
    def held(self) -> Iterator[JobRecord]:
        """This process does the job: known to whatever runs inside, and seen to be alive from other machines."""
        write_json(self.folder / "process.json", mark_of(os.getpid()))
        threading.Thread(target=self._beat, daemon=True).start()
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)
            self._stop.set()

    def _write(self) -> None:
        with suppress(OSError):
            write_json(
                self.folder / "progress.json", {"instances": self.instances, "at": time.time()}
            )

    def _beat(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError):
                if self.folder.exists():
                    (self.folder / "alive").touch()
            self._stop.wait(HEARTBEAT_S)


def current() -> JobRecord | None:
    """The job that this process does; None where a plan is run by a library user or a test."""
    return _current.get()


def new_job(workspace: Workspace, asked: dict[str, Any]) -> Path:
    """A folder for one more job, with what was asked in it. Ids sort by time of launch."""
    workspace.check_writable()
    now = time.time()
    stamp = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{int(now % 1 * 1000):03d}"
    folder = workspace.path / "jobs" / f"{stamp}{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    write_json(folder / "job.json", {**asked, "launched": now})
    return folder


def forget(folder: Path) -> None:
    """Take a job's folder away: by one rename, so that nobody who looks meanwhile finds half of one."""
    aside = folder.with_name(f".removed-{folder.name}")
    with suppress(OSError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def asked_for(
    workspace: Workspace,
    recipe: Path,
    *,
    until: str | None,
    start: str | None,
    overrides: Sequence[str],
    title: str = "",
    origin: Literal["app", "terminal"] = "terminal",
) -> dict[str, Any]:
    """What job.json holds, the command line included: the one that a person would type."""
    recipe = recipe.expanduser().resolve()
    command = ["run", str(recipe), "--workspace", str(workspace.path)]
    command += ["--until", until] if until else []
    command += ["--from", start] if start else []
    for item in overrides:
        command += ["--set", item]
    return {
        "title": title or f"{recipe.stem}: {f'up to {until}' if until else 'all stages'}",
        "command": command,
        "recipe": str(recipe),
        "until": until,
        "start": start,
        "overrides": list(overrides),
        "origin": origin,
    }


@contextmanager
def enlisted(workspace: Workspace, asked: dict[str, Any]) -> Iterator[None]:
    """A run from a terminal shows among the jobs too, unless it is one already, or only found what was there.

    Of the processes that torchrun starts, the first speaks for all.
    """
    if current() is not None or os.environ.get("RANK", "0") != "0":
        yield
        return
    record = JobRecord(new_job(workspace, asked), keep_log=True)
    code = 1
    try:
        with record.held():
            yield
        code = 0
    except EmtError as error:
        code = 2
        record.say(f"error: {error.message()}")
        raise
    except Exception:
        record.say(traceback.format_exc())
        raise
    except BaseException:  # Ctrl-C, SIGTERM
        code = 130
        record.say("stopped; what was committed is kept, and the same command goes on from there")
        raise
    finally:
        record.end(code)
        if code == 0 and all(entry["state"] == "found" for entry in record.instances):
            forget(record.folder)
