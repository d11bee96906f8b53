"""Workers as an array of Slurm jobs, submitted through submitit.

submitit writes the script, pickles the call and keeps the logs in data/workers/slurm. With
`runtime.slurm.cluster: local` the same script runs as processes of this machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError
from emt_core.recipe.base import Runtime, Slurm
from emt_core.run.engines.base import (
    STRIKES,
    ShardJob,
    given_up,
    missing_extra,
    raise_told,
    work,
)
from emt_core.run.shards import left
from emt_core.workspace.process import LAUNCHED, run_to_end
from emt_core.workspace.progress import Progress

LOOK_EVERY_S = {"local": 0.5, "slurm": 5.0}


def processes(runtime: Runtime) -> int:
    """Jobs: as many as the recipe says, else one."""
    return runtime.processes or 1


@dataclass
class _Submitted:
    number: int
    job: Any
    left: int
    """Shards that it had to make when it was submitted."""

    strikes: int = 0


def run(job: ShardJob, count: int, progress: Progress) -> None:
    """Make all shards. Raises EmtError where a worker cannot, or its jobs end again and again."""
    settings = Runtime.model_validate(job.runtime).slurm
    executor = executor_for(job.workers / "slurm", f"emt-{job.stage}", settings)
    total = sum(shard.rows for shard in job.shards)
    numbers = list(range(count))
    arrays = executor.map_array(work, [job.workers] * count, numbers, [count] * count)
    submitted = [
        _Submitted(number=number, job=one, left=len(job.of_worker(number, count)))
        for number, one in zip(numbers, arrays, strict=True)
    ]
    progress.say(f"submitted: {', '.join(str(one.job.job_id) for one in submitted)}")
    try:
        with progress.track(f"shards by {count} jobs", total) as tracker:
            while submitted:
                time.sleep(LOOK_EVERY_S[settings.cluster])
                submitted = list(_looked_at(job, submitted, count, executor, progress))
                if more := job.rows_done() - tracker.done:
                    tracker.advance(more)
    finally:
        for one in submitted:
            with suppress(Exception):  # it may have ended, or the scheduler does not answer
                one.job.cancel()


def run_command(
    command: Sequence[str], folder: Path, name: str, settings: Slurm, progress: Progress
) -> int:
    """A command as one job; returns its exit code, waits until then. folder: scripts and logs.

    Raises EmtError as `executor_for`.
    """
    job = executor_for(folder, name, settings).submit(run_to_end, list(command), {LAUNCHED: "1"})
    progress.say(f"submitted: {job.job_id}; its log: {job.paths.stdout}")
    try:
        while not job.done():
            time.sleep(LOOK_EVERY_S[settings.cluster])
    except BaseException:
        job.cancel()
        raise
    return job.result() if job.exception() is None else 1


def executor_for(folder: Path, name: str, settings: Slurm) -> Any:
    """submitit's executor with the recipe's settings. folder: scripts and logs.

    Raises EmtError where submitit or Slurm's commands are missing.
    """
    try:
        import submitit
    except ImportError as error:
        raise missing_extra("submitit", "slurm") from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=settings.cluster)
    except RuntimeError as error:
        raise EmtError(
            f"there is no Slurm here: {error}",
            where="runtime.engine",
            remedy="run where sbatch and srun are, or set runtime.slurm.cluster to local",
        ) from error
    parameters: dict[str, Any] = {
        "name": name,
        "timeout_min": settings.minutes,
        "gpus_per_node": settings.gpus,
        "cpus_per_task": settings.cpus,
    }
    if settings.memory_gb:
        parameters["mem_gb"] = settings.memory_gb
    if settings.cluster == "slurm":
        named = {"slurm_partition": settings.partition, "slurm_account": settings.account}
        parameters |= {name: value for name, value in named.items() if value}
        if settings.options:
            parameters["slurm_additional_parameters"] = dict(settings.options)
    executor.update_parameters(**parameters)
    return executor


def _looked_at(
    job: ShardJob, submitted: list[_Submitted], count: int, executor: Any, progress: Progress
) -> Iterable[_Submitted]:
    """Those that still run, and those submitted again. Raises EmtError where one cannot go on."""
    for one in submitted:
        if not one.job.done():
            yield one
            continue
        waiting = left(job.out, job.of_worker(one.number, count))
        if not waiting:
            continue
        raise_told(job.workers, one.number)
        strikes = one.strikes + 1 if len(waiting) == one.left else 1
        if strikes == STRIKES:
            raise given_up(job, waiting[0], Path(one.job.paths.stderr))
        again = executor.submit(work, job.workers, one.number, count)
        progress.say(f"job {one.job.job_id} ended early; submitted again as {again.job_id}")
        yield _Submitted(number=one.number, job=again, left=len(waiting), strikes=strikes)
