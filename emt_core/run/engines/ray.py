"""Workers as actors of a Ray cluster, one GPU each: a running cluster's, or one of this machine.

The driver gives each actor a shard at a time. An actor that is lost gives its shard back, and
another one is started. More actors are asked for than a running cluster has room for: they wait,
and begin when nodes are added. Nodes need the workspace's folder, the inputs and this package.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count as count_up
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError
from emt_core.recipe.base import Runtime
from emt_core.run.device import choose_device
from emt_core.run.engines.base import (
    STRIKES,
    ShardJob,
    given_up,
    log_to,
    missing_extra,
    opened,
    raise_told,
)
from emt_core.run.shards import Shard
from emt_core.workspace.progress import Progress

LOOK_EVERY_S = 0.5

MOST = 1024
"""Actors at the most."""

SPARE = 2
"""Actors asked for in a running cluster, in parts of what it has room for now: the spare ones wait
for nodes that join."""

PATIENCE_S = 60.0
"""After this long without an actor that is up, it is said."""

STORE_BYTES = 100 * 2**20
"""Object store of a cluster of this machine: shards go through the workspace, not through it."""

PASSED_ON = ("PYTHONPATH", "OMP_NUM_THREADS", "HF_HOME", "HF_HUB_OFFLINE")
"""Variables of the environment that workers need as the driver has them."""


def processes(runtime: Runtime) -> int:
    """As many as the recipe says, else as many as there may be: `run` asks the cluster."""
    return runtime.processes or MOST


def run(job: ShardJob, count: int, progress: Progress) -> None:
    """Make all shards. Raises EmtError where a worker cannot, or dies again and again."""
    runtime = Runtime.model_validate(job.runtime)
    ray = _connected(runtime)
    try:
        room = ray.cluster_resources()
        gpus = _gpus_each(job, runtime, room, progress)
        if not runtime.processes:
            count = min(count, _worth(runtime, room, gpus))
        actor = ray.remote(num_cpus=runtime.ray.cpus, num_gpus=gpus, max_restarts=0)(_Worker)

        def start(number: int) -> Any:
            return actor.remote(str(job.workers), number, bool(gpus))

        with progress.track(f"shards by up to {count} actors", job.rows) as tracker:
            _Driver(job, start, ray, progress).drive(count, tracker.advance)
    except SystemError as error:
        # what a signal's handler raised while Ray's C code ran arrives as the cause of this
        raise (error.__cause__ or error) from None
    finally:
        ray.shutdown()  # ends the actors; a running cluster stays


def _gpus_each(
    job: ShardJob, runtime: Runtime, room: dict[str, float], progress: Progress
) -> float:
    """GPUs of each actor. The device was settled before: no result is of two kinds of device."""
    if runtime.device == "cpu":
        return 0
    if runtime.workers_have_gpus or choose_device(runtime.device).type == "cuda":
        return runtime.ray.gpus or 1
    if room.get("GPU"):
        progress.say(
            f"the cluster has {room['GPU']:g} GPUs and this process sees none, so {job.label} runs "
            "on CPUs; set runtime.ray.gpus to 1 to use them"
        )
    return 0


def _worth(runtime: Runtime, room: dict[str, float], gpus: float) -> int:
    """How many actors to ask for. Raises EmtError where a cluster of this machine has no room."""
    fits = int(room.get("GPU", 0) // gpus if gpus else room.get("CPU", 0) // runtime.ray.cpus)
    if runtime.ray.address:
        return SPARE * max(fits, 1)
    if not fits:
        raise EmtError(
            f"this machine has no room for a worker of {runtime.ray.cpus} cores and {gpus:g} GPUs: "
            f"Ray found {room.get('CPU', 0):g} cores and {room.get('GPU', 0):g} GPUs",
            where="runtime.ray",
            remedy="ask for less, or name a running cluster in runtime.ray.address",
        )
    return fits


class _Driver:
    """Gives shards to actors that are up, until all are made."""

    def __init__(
        self, job: ShardJob, start: Callable[[int], Any], ray: Any, progress: Progress
    ) -> None:
        self.job = job
        self.ray = ray
        self.progress = progress
        self._start_actor = start
        self._numbers = count_up()
        self._waiting = deque(job.shards)
        self._strikes = Counter[Shard | None]()
        self._busy: dict[Any, tuple[Any, int, Shard | None]] = {}
        """What is awaited -> (actor, its number, its shard; None while it loads the model)."""

    def drive(self, count: int, advance: Callable[[int], None]) -> None:
        """count: actors. Raises EmtError where one cannot go on, or is lost again and again."""
        begun = time.monotonic()
        told = False
        for _ in range(count):
            self._start()
        while self._waiting or any(shard for _, _, shard in self._busy.values()):
            ready, _ = self.ray.wait(list(self._busy), num_returns=1, timeout=LOOK_EVERY_S)
            for future in ready:
                told = True
                self._look_at(future, count, advance)
            if not told and time.monotonic() - begun > PATIENCE_S:
                told = True
                self.progress.say(f"{count} actors wait for room in the cluster (ray status)")

    def _start(self) -> None:
        number = next(self._numbers)
        actor = self._start_actor(number)
        self._busy[actor.ready.remote()] = (actor, number, None)

    def _look_at(self, future: Any, count: int, advance: Callable[[int], None]) -> None:
        """What an actor did is counted, and it gets the next shard, or another takes its place."""
        actor, number, shard = self._busy.pop(future)
        try:
            self.ray.get(future)
        except self.ray.exceptions.RayError as error:
            self._replace(actor, number, shard, count, error)
            return
        if shard:
            advance(shard.rows)
        if self._waiting:
            following = self._waiting.popleft()
            call = actor.make.remote(following.start, following.stop)
            self._busy[call] = (actor, number, following)

    def _replace(
        self, actor: Any, number: int, shard: Shard | None, count: int, error: Exception
    ) -> None:
        raise_told(self.job.workers, number)
        self._strikes[shard] += 1
        if self._strikes[shard] == (STRIKES if shard else STRIKES * count):
            log = self.job.workers / f"{number}.log"
            with log.open("a") as file:
                file.write(f"{error}\n")
            raise given_up(self.job, shard, log) from error
        self.progress.say(f"actor {number} was lost; another one takes its place")
        if shard:
            self._waiting.appendleft(shard)
        self.ray.kill(actor)
        self._start()


class _Worker:
    """An actor: the model loaded once, then a shard a call."""

    def __init__(self, workers: str, number: int, with_gpu: bool) -> None:
        if not with_gpu:  # Ray hides no GPU from actors that asked for none
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        log_to(Path(workers), number)
        self._stack = ExitStack()
        self._make = self._stack.enter_context(opened(Path(workers), number))

    def ready(self) -> None:
        """Returns when the model is loaded."""

    def make(self, start: int, stop: int) -> None:
        self._make(Shard(start, stop))


def _connected(runtime: Runtime) -> Any:
    """The package ray, connected to the recipe's cluster.

    Raises EmtError where the package is missing, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.exceptions import RayError
    except ImportError as error:
        raise missing_extra("ray", "ray") from error
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    address = runtime.ray.address
    own = {} if address else {"object_store_memory": STORE_BYTES, "include_dashboard": False}
    stop = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",
            runtime_env={"env_vars": variables},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **own,
        )
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise EmtError(
            f"no connection to the Ray cluster: {str(error).splitlines()[0]}",
            where="runtime.ray.address",
            remedy="start one (`ray start --head`), or leave the address out for one of this "
            "machine; a cluster with a token wants RAY_AUTH_MODE=token in the environment here too",
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)  # Ray sets one of its own
    return ray
