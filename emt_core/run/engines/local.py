"""Workers as processes of this machine, one for each GPU, or as many as `runtime.processes` says.

They end with the process that started them, whatever ends it.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from emt_core.recipe.base import Runtime
from emt_core.run.device import gpus_for
from emt_core.run.engines.base import Attempt, ShardJob, log_to, work
from emt_core.run.host import cores
from emt_core.workspace.process import live_and_die_with_parent, world_size
from emt_core.workspace.progress import Progress

LOOK_EVERY_S = 0.5


def processes(runtime: Runtime) -> int:
    """How many workers this machine is worth; 0: the stage's own process does it."""
    count = runtime.processes or gpus_for(runtime.device)
    return count if count > 1 and world_size() == 1 else 0


def run(job: ShardJob, count: int, progress: Progress) -> None:
    """Make all shards. Raises EmtError where a worker cannot, or dies again and again."""
    running = {
        _started(job, number, count): Attempt.first(job, number, count) for number in range(count)
    }
    try:
        with progress.track(f"shards by {count} processes", job.rows) as tracker:
            while running:
                wait([process.sentinel for process in running], LOOK_EVERY_S)
                for process in [process for process in running if not process.is_alive()]:
                    process.join()
                    ended = running.pop(process)
                    again = ended.next(job, count, job.workers / f"{ended.number}.log")
                    if again:
                        running[_started(job, again.number, count)] = again
                job.show(tracker)
    finally:
        for process in running:
            process.kill()
            process.join()


def _started(job: ShardJob, number: int, count: int) -> SpawnProcess:
    context = multiprocessing.get_context("spawn")
    process = context.Process(
        target=_in_process, args=(str(job.workers), number, count, _environment(job, number, count))
    )
    process.start()
    return process


def _environment(job: ShardJob, number: int, count: int) -> dict[str, str]:
    """A GPU of its own, or its part of the cores where nothing was said of threads."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    here = [str(place) for place in range(gpus_for("auto"))]
    if job.runtime["device"] != "cpu" and (devices := visible.split(",") if visible else here):
        return {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]}
    threads = max(cores() // count, 1)
    return {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}


def _in_process(workers: str, number: int, count: int, environment: dict[str, str]) -> None:
    """The worker's process: what it says goes to its log."""
    os.environ.update(environment)
    log_to(Path(workers), number)
    live_and_die_with_parent()
    work(Path(workers), number, count)
