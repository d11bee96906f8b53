"""`emt run` as a process group that is killed at a chosen moment.

    run = start(recipe, workspace, Kill("time", at=3.0, artifact="embed/KEY", delay=1.0), order)
    run.wait()          # None where it was killed, else its exit code

An audit hook sees every change that Python makes to a file of the workspace, writes it to
a log of its own, and kills before the one that a kill names. Lance writes natively: kills by
time meet its changes.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import shutil
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from emt_core.flow import STAGES
from emt_core.workspace.view_guard import changed_paths

GONE_WITHIN_S = 20.0
"""Processes of a killed run have to be gone after so long."""

WORKER = r"multiprocessing\.(spawn|forkserver)|simulators/worker\.py"
"""What the command of a process holds that works for a run: a decoder, recorder or simulator."""

MARK = "EMT_KILLED_RUN"
"""Environment variable that all processes of a run inherit: its value names the run."""


@dataclass(frozen=True)
class Change:
    """One change of a file, as the uninterrupted run made it."""

    at: float
    artifact: str
    """`stage/key`, or "" for files of the workspace itself."""

    what: str
    """Operation and path, without the numbers of processes and jobs."""

    earlier: int
    """How often this run had made it before."""

    @property
    def commits(self) -> bool:
        """Whether it writes what a commit begins with."""
        return bool(re.search(r"\.building/\.(manifest|scratch)\.json", self.what))


def kill_own_group() -> None:
    os.killpg(os.getpgid(0), signal.SIGKILL)


@dataclass(frozen=True)
class Kill:
    kind: str
    """time, write, commit, resume or child: speed/kills.py says which is which."""

    at: float
    """Seconds of the uninterrupted run that it stands for."""

    artifact: str = ""
    delay: float = 0.0
    """time, child: seconds after the run's first change of the artifact."""

    change: Change | None = None
    """write, commit: before this change, or before the first of a later artifact."""

    number: int = 0
    """resume: before which change of the run. child: which of its descendants."""

    strike: Callable[[], None] = kill_own_group
    """What is done there, and before every later change."""


class Watch:
    """The audit hook of a run."""

    def __init__(
        self, workspace: Path, kill: Kill | None, order: Sequence[str], told: int, changes: Path
    ) -> None:
        self.root = os.path.realpath(workspace)
        self.kill = kill
        self.place = {artifact: place for place, artifact in enumerate(order)}
        self.told = told
        self.log = os.open(changes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.begun = time.monotonic()
        self.seen: Counter[str] = Counter()
        self.count = 0
        self.struck = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        for path in changed_paths(event, arguments):
            if path.startswith(self.root + os.sep):
                self.change(event, path[len(self.root) + 1 :])

    def change(self, event: str, path: str) -> None:
        what = re.sub(r"\.\d+\.\d+\.tmp$", ".tmp", re.sub(r"^jobs/[^/]+", "jobs/JOB", path))
        what = f"{event} {what}"
        artifact = artifact_of(path)
        if self.kill is not None:
            self.judge(self.kill, what, artifact)
        self.count += 1
        self.seen[what] += 1
        line = json.dumps([time.monotonic() - self.begun, artifact, what])
        os.write(self.log, line.encode() + b"\n")

    def judge(self, kill: Kill, what: str, artifact: str) -> None:
        reached = self.place.get(artifact, -1) - self.place.get(kill.artifact, 0)
        if kill.kind in ("time", "child") and reached >= 0:
            os.write(self.told, b"b")
        if kill.change is not None:
            here = what == kill.change.what and self.seen[what] == kill.change.earlier
            self.struck = self.struck or here or reached > 0
            if self.struck:
                kill.strike()
        if kill.kind == "resume" and self.count == kill.number:
            kill.strike()


def artifact_of(path: str) -> str:
    stage, _, rest = path.partition("/")
    return f"{stage}/{re.split('[./]', rest)[0]}" if stage in STAGES and rest else ""


@dataclass
class Run:
    pid: int
    mark: str
    kill: Kill | None
    told: int
    """Read end of a pipe: a byte comes when the kill's artifact is begun."""

    log: Path
    changes: Path
    killed_child: str = ""
    """child: the command of the process that was killed."""

    def wait(self) -> int | None:
        """Its exit code; None where it was killed.

        Raises AssertionError where one of its processes outlives it.
        """
        kill = self.kill
        if kill is not None and kill.kind in ("time", "child"):
            self._reach(kill)
            if kill.kind == "time" and self._lives():
                os.killpg(self.pid, signal.SIGKILL)
            while kill.kind == "child" and not self.killed_child and self._lives():
                self._kill_child(kill.number)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.told)
        self._all_gone()
        code = os.waitstatus_to_exitcode(status)
        return None if code == -signal.SIGKILL else code

    def _reach(self, kill: Kill) -> None:
        """Wait until the kill's moment, or until the run has ended."""
        if kill.artifact:
            select.select([self.told], [], [])  # readable also at its end
        deadline = time.monotonic() + kill.delay
        while time.monotonic() < deadline and self._lives():
            time.sleep(0.002)

    def _lives(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def _kill_child(self, number: int) -> None:
        try:
            family = psutil.Process(self.pid).children(recursive=True)
            workers = [(one, " ".join(one.cmdline())) for one in family]
            workers = [(one, told) for one, told in workers if re.search(WORKER, told)]
            if not workers:
                time.sleep(0.01)
                return
            victim, command = workers[number % len(workers)]
            victim.kill()
            self.killed_child = command
        except psutil.NoSuchProcess:
            return

    def _all_gone(self) -> None:
        deadline = time.monotonic() + GONE_WITHIN_S
        while left := [*filter(None, map(self._command, psutil.process_iter()))]:
            assert time.monotonic() < deadline, f"outlived the run: {left}"
            time.sleep(0.05)

    def _command(self, process: psutil.Process) -> str:
        """The command of one of the run's processes, whatever became of its parents; else ""."""
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return ""
            ours = os.getsid(process.pid) == self.pid or process.environ().get(MARK) == self.mark
            return " ".join(process.cmdline()) if ours else ""
        except (psutil.Error, OSError):  # it has just ended
            return ""


def start(
    recipe: Path,
    workspace: Path,
    kill: Kill | None,
    order: Sequence[str],
    *,
    first: Callable[[], object] = lambda: None,
    notes: Path | None = None,
) -> Run:
    """Run the recipe in a fork of this process.

    order: artifacts as the uninterrupted run made them. first: called in the fork before all else.
    notes: folder for the log and the list of changes; default: beside the workspace.
    """
    mark = uuid.uuid4().hex
    beside = (notes or workspace.parent) / workspace.name
    log = Path(f"{beside}.log")
    changes = Path(f"{beside}.changes")
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        os.setsid()
        os.environ[MARK] = mark

        def work() -> int:
            for number in (1, 2):
                os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
            watch = Watch(workspace, kill, order, tell, changes)
            first()
            return _work(recipe, workspace, watch)

        _leave(work)
    os.close(tell)
    return Run(pid, mark, kill, told, log, changes)


def _work(recipe: Path, workspace: Path, watch: Watch) -> int:
    from emt_core.cli.__main__ import main
    from emt_core.proximity.perplexity import tuning
    from emt_core.training.midtrain import session
    from emt_core.training.policy import finetuning

    # a checkpoint after every step, as a kill in a long training would find one
    session.CHECKPOINT_SECONDS = finetuning.CHECKPOINT_SECONDS = tuning.SAVE_SECONDS = 0.0
    sys.addaudithook(watch)
    return main(["run", str(recipe), "-w", str(workspace)])


def _leave(work: Callable[[], int]) -> None:
    """End a forked process as Python ends one, with the work's exit code."""
    code = 1
    try:
        code = work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def copy_without(whole: Path, workspace: Path, artifact: str) -> None:
    """Copy a finished workspace, but for one artifact, as if it had not been made yet."""
    shutil.rmtree(workspace, ignore_errors=True)
    shutil.copytree(whole, workspace, symlinks=True, ignore=shutil.ignore_patterns("jobs"))
    shutil.rmtree(workspace / artifact)
    (workspace / f"{artifact}.lock").unlink()


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """The JSON that a function returns, called in a fork: this process stays free of threads."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:

        def work() -> int:
            with os.fdopen(write, "w") as pipe:
                json.dump(function(*arguments), pipe)
            return 0

        os.close(read)
        _leave(work)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"{function.__name__} failed"
    return json.loads(text)


def changes_of(log: Path) -> list[Change]:
    """The changes that a finished run made, in order."""
    seen: Counter[str] = Counter()
    found = []
    for line in log.read_text().splitlines():
        at, artifact, what = json.loads(line)
        found.append(Change(at, artifact, what, seen[what]))
        seen[what] += 1
    return found


def preload() -> None:
    """Import what takes long. Not Lance and Numba: they start threads, which a fork does not
    have."""
    import datasets  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: F401
