"""The shards of one stage as a piece of work that any process can do that sees the workspace.

data/workers/job.json     stage, settings, parents, shards: all that a worker needs
data/workers/3.json       worker 3: {host, pid, started, shards, rows, seconds, restarts}
data/workers/3.log        what it said
data/workers/3.error.json why it cannot go on, where it knows: {what, where, remedy}
"""

from __future__ import annotations

import importlib
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from emt_core.errors import EmtError
from emt_core.recipe.base import Runtime
from emt_core.recipe.recipe import config_model
from emt_core.run.shards import Shard, left
from emt_core.run.stage import Context, stage_module
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json, read_json_if_there, write_json
from emt_core.workspace.progress import Progress, Tracker

WORKERS = "workers"
"""Folder below a stage's data. Scratch: name it in the stage's Outcome."""

STRIKES = 3
"""A worker that ends so often without a new shard is not started again."""


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """What is left of a stage under construction."""

    workspace: Path
    stage: str
    key: str
    label: str
    config: dict[str, Any]
    identity: Any
    base: str
    parents: dict[str, tuple[str, str]]
    """Name -> (stage, key) of a finished artifact."""

    runtime: dict[str, Any]
    shards: tuple[Shard, ...]
    run: str
    """Drawn anew for each run: workers of one that was killed see that they are not wanted."""

    @classmethod
    def of(
        cls, stage: str, key: str, label: str, context: Context, shards: Sequence[Shard]
    ) -> ShardJob:
        """Written into the stage's folder, for workers of any engine."""
        job = cls(
            workspace=context.workspace.path,
            stage=stage,
            key=key,
            label=label,
            config=context.config.model_dump(mode="json"),
            identity=context.identity,
            base=str(context.base),
            parents={name: (found.stage, found.key) for name, found in context.parents.items()},
            runtime=context.runtime.model_dump(mode="json"),
            shards=tuple(shards),
            run=secrets.token_hex(4),
        )
        shutil.rmtree(job.workers, ignore_errors=True)  # of an interrupted run
        job.workers.mkdir(exist_ok=True)
        listed = {name: getattr(job, name) for name in cls.__dataclass_fields__}
        listed |= {"workspace": str(job.workspace)}
        listed |= {"shards": [[shard.start, shard.stop] for shard in shards]}
        write_json(job.workers / "job.json", listed)
        return job

    @classmethod
    def read(cls, workers: Path) -> ShardJob:
        """workers: the folder data/workers of a stage under construction."""
        listed = read_json(workers / "job.json")
        listed["workspace"] = Path(listed["workspace"])
        listed["parents"] = {name: tuple(found) for name, found in listed["parents"].items()}
        listed["shards"] = tuple(Shard(*pair) for pair in listed["shards"])
        return cls(**listed)

    @property
    def out(self) -> Path:
        return Workspace(self.workspace).building(self.stage, self.key) / "data"

    @property
    def workers(self) -> Path:
        return self.out / WORKERS

    def context(self, progress: Progress) -> Context:
        """As the stage's own process has it. Raises EmtError where a parent is gone."""
        workspace = Workspace.open(self.workspace)
        parents = {}
        for name, (stage, key) in self.parents.items():
            parent = workspace.find(stage, key)
            if parent is None:
                raise EmtError(f"{self.label} needs {stage} {key}, which is not there")
            parents[name] = parent
        return Context(
            config=config_model(self.stage, self.config).model_validate(self.config),
            identity=self.identity,
            base=Path(self.base),
            parents=parents,
            out=self.out,
            runtime=Runtime.model_validate(self.runtime),
            progress=progress,
            workspace=workspace,
        )

    def of_worker(self, number: int, count: int) -> list[Shard]:
        """Every count-th shard: worker `number` of `count` makes these."""
        return list(self.shards[number::count])

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def show(self, tracker: Tracker) -> None:
        """Advance to the rows that are done by now."""
        waiting = sum(shard.rows for shard in left(self.out, self.shards))
        if more := self.rows - waiting - tracker.done:
            tracker.advance(more)


def make_shards(stage: str, key: str, label: str, context: Context) -> None:
    """Have the recipe's engine make what it can of a stage; `run` does the rest.

    Nothing happens where the stage has no shards, or its own process is as good. Raises EmtError
    where a worker cannot do its work.
    """
    module = stage_module(stage)
    if not hasattr(module, "open_worker"):
        _say_undivided(module, context)
        return
    engine = importlib.import_module(f"emt_core.run.engines.{context.runtime.engine}")
    count = engine.processes(context.runtime)
    if not count:
        return
    shards = left(context.out, module.shards(context))
    if not shards:
        _say_undivided(module, context)
        return
    job = ShardJob.of(stage, key, label, context, shards)
    engine.run(job, min(count, len(shards)), context.progress)


def _say_undivided(module: ModuleType, context: Context) -> None:
    count = context.runtime.processes
    if count < 2:
        return
    if getattr(module, "DISTRIBUTED", False):
        why = "training takes runtime.training_processes instead"
    else:
        why = "nothing is left here that can be divided, one process goes on"
    context.progress.say(f"runtime.processes is {count}: {why}")


@contextmanager
def opened(workers: Path, number: int) -> Iterator[Callable[[Shard], bool]]:
    """A worker, ready: a call makes a shard. It returns False, undone, where the run is over.

    workers: ShardJob.workers. What a worker of a run that was killed makes is of no use to the run
    after it, and its folder may be gone.
    """
    job = ShardJob.read(workers)
    state = WorkerState(workers, number)
    progress = Progress(label=f"{job.label} worker {number}")
    with ExitStack() as stack:
        with _error_noted(workers, number):
            module = stage_module(job.stage)
            make = stack.enter_context(module.open_worker(job.context(progress)))
        state.ready()

        def make_noted(shard: Shard) -> bool:
            listed = read_json_if_there(workers / "job.json")
            if listed is None or listed["run"] != job.run:
                return False
            with _error_noted(workers, number):
                make(shard)
            state.made(shard)
            return True

        yield make_noted


@contextmanager
def _error_noted(workers: Path, number: int) -> Iterator[None]:
    """An EmtError goes into the worker's error file: engines do not start it again, as it would
    come again."""
    try:
        yield
    except EmtError as error:
        told = {"what": error.what, "where": error.where, "remedy": error.remedy}
        write_json(workers / f"{number}.error.json", told)
        raise


def log_to(workers: Path, number: int) -> None:
    """Send all that this process prints to the worker's log."""
    log = os.open(workers / f"{number}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(log, descriptor)


def work(workers: Path, number: int, count: int) -> None:
    """What a worker does that no driver speaks to: makes those of its shards that are not done."""
    job = ShardJob.read(workers)
    own = left(job.out, job.of_worker(number, count))
    if not own:
        return
    with opened(workers, number) as make:
        for shard in own:
            if not make(shard):
                return


class WorkerState:
    """A worker's own file, for people who look on."""

    def __init__(self, workers: Path, number: int) -> None:
        self._path = workers / f"{number}.json"
        before = read_json_if_there(self._path)
        self._begun = time.monotonic()
        self._state = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.time(),
            "shards": 0,
            "rows": 0,
            "seconds": 0.0,
            "restarts": before["restarts"] + 1 if before else 0,
        }
        write_json(self._path, self._state)

    def ready(self) -> None:
        """Its model is loaded: rates count from here."""
        self._begun = time.monotonic()

    def made(self, shard: Shard) -> None:
        self._state["shards"] += 1
        self._state["rows"] += shard.rows
        self._state["seconds"] = round(time.monotonic() - self._begun, 3)
        write_json(self._path, self._state)


def worker_states(building: Path) -> list[dict[str, Any]]:
    """What WorkerState wrote of each worker at an artifact under construction, in their order.

    Beside it `worker`, its number, and `rate`, rows/s since it was last ready; 0 before its first
    shard is done. Empty for an artifact that no workers make.
    """
    files = (building / "data" / WORKERS).glob("[0-9]*.json")
    numbers = sorted(int(path.stem) for path in files if path.stem.isdigit())
    states = []
    for number in numbers:
        state = read_json_if_there(building / "data" / WORKERS / f"{number}.json")
        if state is not None:
            rate = state["rows"] / state["seconds"] if state["seconds"] else 0.0
            states.append({"worker": number, "rate": rate, **state})
    return states


def in_one_line(states: Sequence[Mapping[str, Any]]) -> str:
    """`3 workers: 41, 40, 0 rows/s, 1 restart`; empty without workers."""
    if not states:
        return ""
    rates = ", ".join(f"{state['rate']:,.3g}" for state in states[:8])
    more = ", ..." if len(states) > 8 else ""
    restarts = sum(state["restarts"] for state in states)
    again = f", {restarts} {'restart' if restarts == 1 else 'restarts'}" if restarts else ""
    noun = "worker" if len(states) == 1 else "workers"
    return f"{len(states)} {noun}: {rates}{more} rows/s{again}"


def raise_told(workers: Path, number: int) -> None:
    """Raises the EmtError that a worker left, if it left one."""
    if told := read_json_if_there(workers / f"{number}.error.json"):
        raise EmtError(told["what"], where=told["where"], remedy=told["remedy"])


@dataclass(frozen=True)
class Attempt:
    """One start of a worker that no driver speaks to, to be judged when it has ended."""

    number: int
    left: int
    """Shards that it had to make."""

    strikes: int = 0
    """Attempts before it, in a row, that made none."""

    @classmethod
    def first(cls, job: ShardJob, number: int, count: int) -> Attempt:
        return cls(number, len(job.of_worker(number, count)))

    def next(self, job: ShardJob, count: int, log: Path) -> Attempt | None:
        """The attempt after this one, which has ended; None where its shards are done.

        log: of this one. Raises EmtError where the worker left one, or made no shard STRIKES times.
        """
        waiting = left(job.out, job.of_worker(self.number, count))
        if not waiting:
            return None
        raise_told(job.workers, self.number)
        strikes = self.strikes + 1 if len(waiting) == self.left else 1
        if strikes == STRIKES:
            raise given_up(job, waiting[0], log)
        return Attempt(self.number, len(waiting), strikes)


def given_up(job: ShardJob, shard: Shard | None, log: Path) -> EmtError:
    """The error where workers end again and again at one shard, or (None) before their first."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    last = f": {lines[-1][:300]}" if lines else ""
    at = f"at rows {shard.start:,} to {shard.stop - 1:,}" if shard else "before its first rows"
    return EmtError(
        f"a worker of {job.label} ended {STRIKES} times {at}{last}",
        where=log,
        remedy="look at its log; what is done is kept, run again to go on",
    )


def missing_extra(package: str, extra: str) -> EmtError:
    """The error where an engine's package is not installed."""
    return EmtError(
        f"the engine {extra!r} needs the package {package!r}",
        where="runtime.engine",
        remedy=f'pip install "embodied-midtrain[{extra}]"',
    )
