"""Workers as processes of this machine, one for each GPU, or as many as `runtime.processes` says.

They end with the process that started them, whatever ends it.
"""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from emt_core.recipe.base import Runtime
from emt_core.run.engines.base import STRIKES, ShardJob, given_up, log_to, raise_told, work
from emt_core.run.shards import left
from emt_core.workspace.process import live_and_die_with_parent, world_size
from emt_core.workspace.progress import Progress, Tracker

LOOK_EVERY_S = 0.5


def processes(runtime: Runtime) -> int:
    """How many workers this machine is worth; 0: the stage's own process does it."""
    count = runtime.processes or (len(_gpus()) if runtime.device in ("auto", "cuda") else 1)
    return count if count > 1 and world_size() == 1 else 0


@dataclass
class _Worker:
    number: int
    process: SpawnProcess
    left: int
    """Shards that it had to make when it was started."""

    strikes: int = 0


def run(job: ShardJob, count: int, progress: Progress) -> None:
    """Make all shards. Raises EmtError where a worker cannot, or dies again and again."""
    total = sum(shard.rows for shard in job.shards)
    workers = [_start(job, number, count) for number in range(count)]
    try:
        with progress.track(f"shards by {count} processes", total) as tracker:
            while workers:
                wait([worker.process.sentinel for worker in workers], LOOK_EVERY_S)
                workers = [again for one in workers if (again := _looked_at(job, one, count))]
                _advance(tracker, job)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()


def _start(job: ShardJob, number: int, count: int, *, strikes: int = 0) -> _Worker:
    context = multiprocessing.get_context("spawn")
    process = context.Process(
        target=_in_process, args=(str(job.workers), number, count, _environment(job, number, count))
    )
    process.start()
    own = len(left(job.out, job.of_worker(number, count)))
    return _Worker(number=number, process=process, left=own, strikes=strikes)


def _environment(job: ShardJob, number: int, count: int) -> dict[str, str]:
    """A GPU of its own, or its part of the cores where nothing was said of threads."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if job.runtime["device"] != "cpu" and (devices := visible.split(",") if visible else _gpus()):
        return {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]}
    threads = max((os.cpu_count() or 1) // count, 1)
    return {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}


def _gpus() -> list[str]:
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _in_process(workers: str, number: int, count: int, environment: dict[str, str]) -> None:
    """The worker's process: what it says goes to its log."""
    os.environ.update(environment)
    log_to(Path(workers), number)
    live_and_die_with_parent()
    work(Path(workers), number, count)


def _looked_at(job: ShardJob, worker: _Worker, count: int) -> _Worker | None:
    """The worker while it runs, one started again in its place, or None when its shards are done.

    Raises EmtError where it cannot do them.
    """
    if worker.process.is_alive():
        return worker
    worker.process.join()
    waiting = left(job.out, job.of_worker(worker.number, count))
    if not waiting:
        return None
    raise_told(job.workers, worker.number)
    strikes = worker.strikes + 1 if len(waiting) == worker.left else 1
    if strikes == STRIKES:
        raise given_up(job, waiting[0], job.workers / f"{worker.number}.log")
    return _start(job, worker.number, count, strikes=strikes)


def _advance(tracker: Tracker, job: ShardJob) -> None:
    if more := job.rows_done() - tracker.done:
        tracker.advance(more)
