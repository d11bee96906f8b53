"""Workers as an array of Slurm jobs, submitted through submitit.

submitit writes the script, pickles the call and keeps the logs in data/workers/slurm. With
`runtime.slurm.cluster: local` the same script runs as processes of this machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from emt_core.errors import EmtError
from emt_core.recipe.base import Runtime, Slurm
from emt_core.run.engines.base import Attempt, ShardJob, missing_extra, work
from emt_core.workspace.process import LAUNCHED, family, run_to_end
from emt_core.workspace.progress import Progress

LOOK_EVERY_S = {"local": 0.5, "slurm": 5.0}


def processes(runtime: Runtime) -> int:
    """Jobs: as many as the recipe says, else one."""
    return runtime.processes or 1


def run(job: ShardJob, count: int, progress: Progress) -> None:
    """Make all shards. Raises EmtError where a worker cannot, or its jobs end again and again."""
    settings = Runtime.model_validate(job.runtime).slurm
    executor = executor_for(job.workers / "slurm", f"emt-{job.stage}", settings)
    numbers = list(range(count))
    array = executor.map_array(work, [job.workers] * count, numbers, [count] * count)
    running = {
        submitted: Attempt.first(job, number, count)
        for number, submitted in zip(numbers, array, strict=True)
    }
    progress.say(f"submitted: {', '.join(str(submitted.job_id) for submitted in running)}")
    try:
        with progress.track(f"shards by {count} jobs", job.rows) as tracker:
            while running:
                time.sleep(LOOK_EVERY_S[settings.cluster])
                for submitted in [submitted for submitted in running if submitted.done()]:
                    ended = running.pop(submitted)
                    again = ended.next(job, count, Path(submitted.paths.stderr))
                    if again:
                        following = executor.submit(work, job.workers, again.number, count)
                        running[following] = again
                        progress.say(
                            f"job {submitted.job_id} ended early; submitted again as "
                            f"{following.job_id}"
                        )
                job.show(tracker)
    finally:
        for submitted in running:
            with suppress(Exception):  # it may have ended, or the scheduler does not answer
                _cancel(submitted, settings)


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
        _cancel(job, settings)
        raise
    return job.result() if job.exception() is None else 1


def _cancel(job: Any, settings: Slurm) -> None:
    """Have the scheduler end a job; one of this machine is killed with all that it started.

    submitit would interrupt a local one, which ends with a traceback in this run's log.
    """
    if settings.cluster == "slurm":
        job.cancel()
        return
    for member in family(psutil.Process(int(job.job_id))):
        with suppress(psutil.NoSuchProcess):
            member.kill()


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
