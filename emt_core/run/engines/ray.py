"""Workers as actors of a Ray cluster, one GPU each: a running cluster's, or one of this machine.

The driver gives each actor a shard at a time. An actor that is lost gives its shard back, and
another one is started. More actors may be asked for than the cluster has room for: they wait, and
begin when nodes are added. Nodes need the workspace's folder, the inputs and this package.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from contextlib import ExitStack
from itertools import count as count_up
from pathlib import Path
from typing import Any

from emt_core.recipe.base import Runtime
from emt_core.run.engines.base import (
    STRIKES,
    ShardJob,
    given_up,
    missing_extra,
    opened,
    raise_told,
)
from emt_core.run.shards import Shard
from emt_core.workspace.progress import Progress

LOOK_EVERY_S = 0.5

SPARE = 2
"""Actors asked for, in parts of the GPUs that the cluster has now: the spare ones wait for nodes
that join."""

PASSED_ON = ("PYTHONPATH", "OMP_NUM_THREADS", "HF_HOME", "HF_HUB_OFFLINE")
"""Variables of the environment that workers need as the driver has them."""


def processes(runtime: Runtime) -> int:
    """As many as the recipe says, else by what the cluster has."""
    if runtime.processes:
        return runtime.processes
    has = _connected(runtime).cluster_resources()
    gpus = int(has.get("GPU", 0))
    return SPARE * gpus if gpus else int(has.get("CPU", 1) // runtime.ray.cpus)


def run(job: ShardJob, count: int, progress: Progress) -> None:
    """Make all shards. Raises EmtError where a worker cannot, or dies again and again."""
    runtime = Runtime.model_validate(job.runtime)
    ray = _connected(runtime)
    gpu = 1 if ray.cluster_resources().get("GPU") and runtime.device != "cpu" else 0
    actor = ray.remote(num_cpus=runtime.ray.cpus, num_gpus=gpu, max_restarts=0)(_Worker)
    total = sum(shard.rows for shard in job.shards)
    try:
        with progress.track(f"shards by up to {count} actors", total) as tracker:
            _drive(job, count, actor, ray, tracker.advance, progress)
    finally:
        ray.shutdown()  # ends the actors; a running cluster stays


def _drive(job: ShardJob, count: int, actor: Any, ray: Any, advance: Any, progress: Any) -> None:
    """Give shards to actors that are up until none is left."""
    numbers = count_up()
    waiting = deque(job.shards)
    strikes = Counter[Shard]()
    busy: dict[Any, tuple[Any, int, Shard | None]] = {}
    """What is awaited -> (actor, its number, its shard; None while it loads the model)."""

    def start() -> None:
        number = next(numbers)
        one = actor.remote(str(job.workers), number)
        busy[one.ready.remote()] = (one, number, None)

    for _ in range(count):
        start()
    while waiting or any(shard for _, _, shard in busy.values()):
        ready, _ = ray.wait(list(busy), num_returns=1, timeout=LOOK_EVERY_S)
        for future in ready:
            one, number, shard = busy.pop(future)
            try:
                ray.get(future)
            except ray.exceptions.RayError as error:
                raise_told(job.workers, number)
                at = shard or Shard(job.shards[0].start, job.shards[0].start + 1)
                strikes[at] += 1
                log = job.workers / f"{number}.error.log"
                log.write_text(str(error))
                if strikes[at] == STRIKES * (1 if shard else count):
                    raise given_up(job, at, log) from error
                progress.say(f"actor {number} was lost; another one takes its place")
                if shard:
                    waiting.appendleft(shard)
                ray.kill(one)
                start()
                continue
            if shard:
                advance(shard.rows)
            if waiting:
                following = waiting.popleft()
                call = one.make.remote(following.start, following.stop)
                busy[call] = (one, number, following)


class _Worker:
    """An actor: the model loaded once, then a shard a call."""

    def __init__(self, workers: str, number: int) -> None:
        self._stack = ExitStack()
        self._make = self._stack.enter_context(opened(Path(workers), number))

    def ready(self) -> None:
        """Returns when the model is loaded."""

    def make(self, start: int, stop: int) -> None:
        self._make(Shard(start, stop))


def _connected(runtime: Runtime) -> Any:
    """The package ray, connected to the recipe's cluster. Raises EmtError where it is missing."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise missing_extra("ray", "ray") from error
    if not ray.is_initialized():
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        ray.init(
            address=runtime.ray.address or "local",
            runtime_env={"env_vars": variables},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    return ray
