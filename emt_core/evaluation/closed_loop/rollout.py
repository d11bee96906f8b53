"""The closed loop: many simulators, one policy. Observations that wait are answered in one batch.

A simulator that has its actions works on its own while the policy sees to others, so on an
accelerator the simulators are the bottleneck. An episode's outcome does not depend on how many play
beside it (a policy must not either). After a crash, a hang or an error of a simulator it is
restarted, and its episode is tried once more; everything else goes on.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.base import Benchmark, Episode
from emt_core.evaluation.closed_loop.launching import Launch, Worker, graphics_backends
from emt_core.evaluation.closed_loop.reference import reference_for
from emt_core.evaluation.simulators.wire import WireError

MOST_RESTARTS = 3
"""Restarts in a row that do not come up, before the evaluation gives up."""

POLL_S = 0.5


class Policy(Protocol):
    """What the loop needs: training/policy/policy.py has one, tests have fakes."""

    def act(self, images: np.ndarray, instructions: Sequence[str]) -> np.ndarray:
        """images uint8 [n, H, W, 3], n instructions -> float32 [n, chunk, A], actions as the
        simulator takes them.

        One whose `spec.action_map.delta` holds is given `reference=` as well, float32 [n, R]
        (reference.py).
        """
        ...


@dataclass(kw_only=True)
class Played:
    """An episode that has ended."""

    episode: Episode
    instruction: str = ""
    success: bool = False
    steps: int = 0
    completed: int = 0
    seconds: float = 0.0
    failure: str = ""
    detail: str = ""
    """Last words of a simulator that failed."""

    frames: list[np.ndarray] = field(default_factory=list)
    """uint8 [H, W, 3] as the policy saw them, where they were asked for."""


class Simulators:
    """Workers of one benchmark; kept from one checkpoint to the next.

    >>> with Simulators(benchmark, environments=8) as simulators:
    ...     simulators.play(episodes, policy, on_end=write)
    """

    def __init__(
        self, benchmark: Benchmark, *, environments: int, python: str = "", simulator: str = ""
    ) -> None:
        self.benchmark = benchmark
        self.environments = environments
        self.python = python
        self.simulator = simulator or (
            "libero" if benchmark.name.startswith("libero") else benchmark.name
        )
        self.workers: list[Worker] = []
        self.facts: dict[str, Any] = {}
        """Versions and action dimension, as the first worker said."""

        self._backends = graphics_backends()
        self._fruitless = 0

    def __enter__(self) -> Simulators:
        self._folder = tempfile.TemporaryDirectory(prefix="emt-")
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.end(kindly=True)
        self._folder.cleanup()

    def play(
        self,
        episodes: Sequence[Episode],
        policy: Policy | None,
        *,
        on_end: Callable[[Played], None],
        execute: int | None = None,
        wants_frames: Callable[[Episode], bool] = lambda episode: False,
    ) -> None:
        """Play all episodes; `on_end` is called once for each, in the order in which they end.

        policy None: the simulator's privileged controller acts (a rehearsal of the benchmark, never
        a result). Raises EmtError where the simulator cannot be had, or the policy's actions or the
        state that they are measured from do not fit it.
        """
        _Round(self, deque(episodes), policy, on_end, execute, wants_frames).run()

    def start_missing(self, wanted: int) -> None:
        while len(self.workers) < min(wanted, self.environments):
            self.workers.append(Worker(self._launch(), len(self.workers)))
            self.workers[-1].start()

    def opened(self, worker: Worker, kind: str, facts: dict[str, Any]) -> None:
        """The answer to `open`."""
        if kind == "ready":
            self.facts = facts
            self._fruitless = 0
            worker.turn("idle")
            return
        if (
            facts.get("reason") == "graphics"
            and worker.launch.graphics == self._backends[0]
            and self._backends[1:]
        ):
            self._backends = self._backends[1:]
        if facts.get("reason") == "graphics" and worker.launch.graphics != self._backends[0]:
            self.restart(worker)
            return
        if facts.get("reason") == "graphics":
            what = "there is no off-screen GL for the simulator"
            remedy = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libosmesa6"
        else:
            missing = facts.get("reason") == "missing"
            what = f"the simulator of {self.benchmark.title} " + (
                "is not installed" if missing else "does not start"
            )
            remedy = self.benchmark.install
        raise EmtError(
            f"{what} ({facts.get('message', kind)})", where=worker.launch.command[0], remedy=remedy
        )

    def restart(self, worker: Worker) -> None:
        worker.end()
        self._fruitless += 1
        if self._fruitless > MOST_RESTARTS + len(self.workers):
            raise EmtError(
                f"the simulator of {self.benchmark.title} does not come up again "
                f"({worker.last_words()})",
                where=worker.launch.command[0],
                remedy="finished episodes are kept; try `emt check-benchmark`. "
                f"{self.benchmark.install}",
            )
        worker.launch = self._launch()
        worker.start()

    def _launch(self) -> Launch:
        return Launch(
            simulator=self.simulator,
            settings=self.benchmark.settings,
            python=self.python,
            folder=Path(self._folder.name),
            graphics=self._backends[0],
        )


class _Round:
    """One call of `play`."""

    def __init__(
        self,
        simulators: Simulators,
        left: deque[Episode],
        policy: Policy | None,
        on_end: Callable[[Played], None],
        execute: int | None,
        wants_frames: Callable[[Episode], bool],
    ) -> None:
        self.simulators = simulators
        self.left = left
        self.policy = policy
        self.on_end = on_end
        self.execute = execute
        self.wants_frames = wants_frames
        self.timeout_s = simulators.benchmark.timeout_s
        self.reference = reference_for(policy, simulators.benchmark)
        self.playing: dict[int, tuple[Played, float]] = {}
        """Worker's number -> its episode and when that began."""

        self.waiting: list[tuple[Worker, np.ndarray, str, np.ndarray | None]] = []
        """Worker, image, instruction, state."""

        self.tried: set[tuple[str, int]] = set()
        """(task, number) of episodes whose simulator has failed once."""

        self.died_idle: set[int] = set()
        """Numbers of workers that died with nothing to do and have not played since."""

    def run(self) -> None:
        self.simulators.start_missing(len(self.left))
        for worker in self.simulators.workers:
            self._give(worker)
        while self.playing or self.left:
            owing = [
                w for w in self.simulators.workers if w.state in ("starting", "opening", "busy")
            ]
            by_number = {worker.fileno(): worker for worker in owing}
            ready = wait(list(by_number), timeout=0 if self.waiting else POLL_S)
            heard = [by_number[found] for found in ready]  # pyright: ignore[reportArgumentType]
            for worker in heard:
                self._hear(worker)
            for worker in owing:
                if worker not in heard and (worker.overdue(self.timeout_s) or worker.gone()):
                    self._lost(worker, "crashed" if worker.gone() else "hung")
            if self.waiting:
                self._act()

    def _give(self, worker: Worker) -> None:
        """The next episode: of the task that the worker has open already, where there is one."""
        if worker.state != "idle" or not self.left:
            return
        same = next((episode for episode in self.left if episode.task == worker.last_task), None)
        episode = same or self.left[0]
        self.left.remove(episode)
        worker.last_task = episode.task
        self.playing[worker.number] = (Played(episode=episode), time.monotonic())
        try:
            worker.send("begin", {**episode.begin, "privileged": self.policy is None})
        except OSError:
            self._died_idle(worker, episode)
        else:
            worker.turn("busy")

    def _died_idle(self, worker: Worker, episode: Episode) -> None:
        """It died while it had nothing to do: not this episode's doing, which gets another start.
        Twice in a row it counts, or a simulator that never stays up would be started for ever."""
        if worker.number in self.died_idle:
            self._lost(worker, "crashed")
            return
        self.died_idle.add(worker.number)
        del self.playing[worker.number]
        self.left.appendleft(episode)
        self.simulators.restart(worker)

    def _hear(self, worker: Worker) -> None:
        try:
            if worker.state == "starting":
                worker.accept(self.timeout_s)
                return
            kind, fields, arrays = worker.receive()
        except (EOFError, OSError, WireError) as error:
            self._lost(worker, "hung" if isinstance(error, TimeoutError) else "crashed")
            return
        if worker.state == "opening":
            self.simulators.opened(worker, kind, fields)
            self._give(worker)
            return
        self.died_idle.discard(worker.number)
        if kind == "observation":
            self._observed(worker, fields, arrays)
        elif kind == "end":
            played = self._finish(worker, success=fields["success"], steps=fields["steps"])
            played.completed = fields["completed"]
            played.failure = "" if played.success else "step_cap"
            self._ended(worker, played)
        else:
            self._failed(worker, "error", str(fields.get("message", kind)))
            self.simulators.restart(worker)  # who knows what state the simulator is in

    def _observed(
        self, worker: Worker, fields: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> None:
        played, _ = self.playing[worker.number]
        played.steps = fields["step"]
        image = arrays["images"][0]
        # a chain's instruction changes under way; the row keeps the first
        played.instruction = played.instruction or fields["instruction"]
        if self.wants_frames(played.episode):
            played.frames.append(image)
        self.waiting.append((worker, image, fields["instruction"], arrays.get("state")))
        worker.turn("waiting")

    def _act(self) -> None:
        """One batch of actions for everyone who waits."""
        assert self.policy is not None
        batch = self.waiting
        self.waiting = []
        workers, images, words, states = zip(*batch, strict=True)
        more = {"reference": self.reference.of(states)} if self.reference else {}
        actions = self.policy.act(np.stack(images), list(words), **more)
        actions = self._checked(np.asarray(actions, np.float32), len(batch))
        for worker, chunk in zip(workers, actions, strict=True):
            if np.isfinite(chunk).all():
                worker.turn("busy")
                try:
                    worker.send("actions", arrays={"actions": chunk})
                except OSError:
                    self._lost(worker, "crashed")
            else:
                played = self._finish(worker)
                played.failure = "bad_action"
                with suppress(OSError):  # one that is gone shows at its next `begin`
                    worker.send("abandon")
                self._ended(worker, played)

    def _checked(self, actions: np.ndarray, count: int) -> np.ndarray:
        wanted = self.simulators.facts["action_dim"]
        if actions.ndim != 3 or len(actions) != count or actions.shape[2] != wanted:
            raise EmtError(
                f"the policy's actions have shape {actions.shape}, "
                f"{self.simulators.benchmark.title} takes "
                f"({count}, chunk, {wanted})",
                where="policy",
                remedy="evaluate a policy that was trained on this robot's actions",
            )
        if self.execute is not None and self.execute > actions.shape[1]:
            raise EmtError(
                f"`execute: {self.execute}` is more than the policy's chunk of {actions.shape[1]} "
                "actions",
                where="evaluate.execute",
            )
        return actions[:, : self.execute]

    def _lost(self, worker: Worker, failure: str) -> None:
        """Replace a worker that died or hung."""
        if worker.number in self.playing:
            worker.end()
            self._failed(worker, failure, worker.last_words())
        self.simulators.restart(worker)

    def _failed(self, worker: Worker, failure: str, detail: str) -> None:
        """The simulator failed: its episode is tried once more, and ends the second time."""
        played = self._finish(worker)
        case = (played.episode.task, played.episode.number)
        if case not in self.tried:
            self.tried.add(case)
            self.left.append(played.episode)
            return
        played.failure = failure
        played.detail = detail
        self.on_end(played)

    def _finish(self, worker: Worker, *, success: bool = False, steps: int | None = None) -> Played:
        played, begun = self.playing.pop(worker.number)
        played.success = success
        played.seconds = time.monotonic() - begun
        played.steps = played.steps if steps is None else steps
        return played

    def _ended(self, worker: Worker, played: Played) -> None:
        self.on_end(played)
        worker.turn("idle")
        self._give(worker)
