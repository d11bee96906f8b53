"""What a process that runs a recipe writes about itself into its job's folder, for all to see.

<workspace>/jobs/<id>/job.json       what was asked: recipe, until, overrides; from app or terminal
<workspace>/jobs/<id>/process.json   the process that does it (process.py)
<workspace>/jobs/<id>/progress.json  its instances, each with its state
<workspace>/jobs/<id>/log.txt        everything it printed (from a terminal: what it reported)
<workspace>/jobs/<id>/alive          touched while it lives, for machines that cannot see it
<workspace>/jobs/<id>/cancel.json    somebody asked it to stop
<workspace>/jobs/<id>/end.json       exit code; absent while it runs or if it was killed

How far the instance at work has come stands in that instance's building folder: only the process
that holds its lock writes there, so a job's progress is never another's.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, Protocol

from emt_core.workspace.files import write_json
from emt_core.workspace.process import mark_of
from emt_core.workspace.progress import also_log

WorkState = Literal["todo", "waiting", "building", "made", "found", "failed"]
"""waiting: another process builds it. found: it was there already."""

HEARTBEAT_S = 15.0
"""How often `alive` is touched."""

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
    """The folder of the job that this process does.

    Its methods never fail: on a full disk it is the stage that has to stop, not a note about it.
    """

    def __init__(self, folder: Path, *, keep_log: bool) -> None:
        self.folder = folder
        self.keep_log = keep_log
        self.instances: list[dict[str, Any]] = []
        self._begun = time.monotonic()
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
        seconds = round(time.monotonic() - self._begun, 3)
        self._note("end.json", {"code": code, "at": time.time(), "seconds": seconds})

    @contextmanager
    def held(self) -> Iterator[JobRecord]:
        """Inside, `current()` is this record, and `alive` is touched every few seconds."""
        write_json(self.folder / "process.json", mark_of(os.getpid()))
        threading.Thread(target=self._beat, daemon=True).start()
        here = _current.set(self)
        log = also_log.set(self.say)
        try:
            yield self
        finally:
            also_log.reset(log)
            _current.reset(here)
            self._stop.set()

    def _write(self) -> None:
        self._note("progress.json", {"instances": self.instances, "at": time.time()})

    def _note(self, name: str, value: dict[str, Any]) -> None:
        with suppress(OSError):
            if self.folder.is_dir():  # a removed job, or a workspace that was taken away, stays so
                write_json(self.folder / name, value)

    def _beat(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError):
                if self.folder.exists():
                    (self.folder / "alive").touch()
            self._stop.wait(HEARTBEAT_S)


def current() -> JobRecord | None:
    """The job that this process does; None where a plan is run by a library user or a test."""
    return _current.get()
