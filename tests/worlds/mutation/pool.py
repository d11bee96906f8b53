"""Runs mutants in a worker process that is watched and started again when it dies or hangs.

    python -m mutation.pool     the worker: a line {"target", "seed", "number"} in, a Result out

A mutant is made from (target, seed, number) alone, so that any can be made again.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutation.drive import Found

HANG_S = 10.0
"""Of processor time, which other work on the machine does not change."""

STUCK_S = 60.0
"""By the clock: a wait for nothing."""

START_S = 300.0
"""For the worker's imports and the clean runs of a target's variants, both."""

MEMORY_MB = 500
"""Over the clean run."""

ADDRESS_MB = 6_000
"""Address space over that of the clean run: one huge allocation fails instead of the machine."""


@dataclass
class Result:
    """What came of one mutant. faults: (kind, what happened)."""

    target: str
    seed: int
    number: int
    did: str = ""
    seconds: float = 0.0
    """Of processor time."""

    memory_mb: float = 0.0
    """Peak over the clean run."""
    rows: int = 0
    error: str = ""
    faults: list[tuple[str, str]] = field(default_factory=list)


# ---- in the worker


class Worker:
    def __init__(self) -> None:
        self.clean: dict[tuple[str, int], tuple[Found, float]] = {}
        """(target, variant) -> what came of the clean files, and the peak of memory in MB."""

    def run(self, target: str, seed: int, number: int, folder: Path) -> Result:
        """folder: an empty one, in which the mutant's files are left."""
        from mutation.drive import drive, judge
        from mutation.targets import TARGETS

        rng = Random(f"{target} {seed} {number}")
        place = rng.randrange(len(TARGETS[target]))
        variant = TARGETS[target][place]
        clean, usual = self._clean(target, place)
        result = Result(target, seed, number)
        variant.write(folder)
        mutant = variant.damage(folder, rng)
        result.did = mutant.did
        _forget_peak()
        began = time.process_time()
        found = drive(variant.source, folder)
        result.seconds = time.process_time() - began
        result.memory_mb = max(_peak_mb() - usual, 0.0)
        result.rows = len(found.rows)
        result.error = found.error
        result.faults = judge(mutant, found, clean)
        if result.memory_mb > MEMORY_MB:
            result.faults.append(("memory", f"{result.memory_mb:.0f} MB over the clean run"))
        return result

    def _clean(self, target: str, place: int) -> tuple[Found, float]:
        from mutation.drive import drive
        from mutation.targets import TARGETS

        if (target, place) not in self.clean:
            variant = TARGETS[target][place]
            with tempfile.TemporaryDirectory() as folder:
                for _ in range(2):  # the first one imports
                    part = Path(tempfile.mkdtemp(dir=folder))
                    variant.write(part)
                    _forget_peak()
                    found = drive(variant.source, part)
            if found.error or found.faults or not found.kept:
                raise AssertionError(f"the clean {target} {place}: {found}")
            self.clean[target, place] = (found, _peak_mb())
            _bound_address_space()
        return self.clean[target, place]


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name + ":"))


def _peak_mb() -> float:
    return _status_mb("VmHWM")


def _bound_address_space() -> None:
    most = int((_status_mb("VmSize") + ADDRESS_MB) * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def work() -> None:
    """Answer lines of standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # no disk waits for a flush
    with tempfile.TemporaryDirectory(prefix="emt-mutants-", dir=memory) as scratch:
        tempfile.tempdir = scratch
        os.environ.update(HF_HOME=f"{scratch}/hf", XDG_CACHE_HOME=f"{scratch}/cache")
        worker = Worker()
        for line in sys.stdin:
            task = json.loads(line)
            if task["number"] < 0:
                from mutation.targets import TARGETS

                for place in range(len(TARGETS[task["target"]])):
                    worker._clean(task["target"], place)
                print(json.dumps({"ready": True}), file=answers, flush=True)
                continue
            folder = Path(scratch) / f"{task['target']}-{task['number']}"
            folder.mkdir()
            result = worker.run(**task, folder=folder)
            print(json.dumps(asdict(result)), file=answers, flush=True)
            shutil.rmtree(folder)


# ---- outside of it


class Pool:
    """One worker process; a with-block that ends it. log: what it prints to standard error."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: set[str] = set()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(self, target: str, seed: int, numbers: Iterable[int]) -> Iterator[Result]:
        """The result of each mutant, in order."""
        for number in numbers:
            if target not in self.ready:
                self._ask({"target": target, "seed": seed, "number": -1}, START_S, START_S)
                self.ready.add(target)
            try:
                task = {"target": target, "seed": seed, "number": number}
                result = Result(**self._ask(task, HANG_S, STUCK_S))
            except TimeoutError as error:
                fault = ("hang", str(error))
                result = Result(target, seed, number, seconds=HANG_S, faults=[fault])
                self._end()
            except EOFError as error:
                result = Result(target, seed, number, faults=[("crash", str(error))])
                self._end()
            yield result

    def _ask(self, task: dict[str, Any], busy: float, patience: float) -> dict[str, Any]:
        """Raises TimeoutError without an answer after `busy` seconds of processor time or
        `patience` by the clock, EOFError where the worker died."""
        if self.process is None:
            self.process = self._start()
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(task).encode() + b"\n")
        self.process.stdin.flush()
        began = (_processor_s(self.process.pid), time.monotonic())
        while not select.select([self.process.stdout], [], [], 0.5)[0]:
            spent = (_processor_s(self.process.pid) - began[0], time.monotonic() - began[1])
            if spent[0] > busy or spent[1] > patience:
                raise TimeoutError(f"no answer after {spent[0]:.0f} s of work, {spent[1]:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise EOFError(f"the process died ({name}): {_tail(self.log)}")
        return json.loads(line)

    def _start(self) -> subprocess.Popen[bytes]:
        worlds = Path(__file__).parents[1]
        paths = [str(worlds), str(worlds.parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "mutation.pool"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.process = None
        self.ready = set()


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:]


if __name__ == "__main__":
    work()
