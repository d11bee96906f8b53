"""Starts, watches and ends simulator workers, with one socket to each."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.base import Benchmark
from emt_core.evaluation.simulators import wire

WORKER = Path(wire.__file__).with_name("worker.py")
LOG_TAIL_BYTES = 2000
GRACE_S = 3.0
START_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What every worker of an evaluation is started with."""

    simulator: str
    settings: Mapping[str, Any]
    python: str
    """Command of the interpreter; "": ours."""

    folder: Path
    """A short, private folder for sockets and logs (a socket's path has at most 107 characters)."""

    graphics: str
    """MUJOCO_GL of the worker."""

    @property
    def command(self) -> list[str]:
        return [*(shlex.split(self.python) or [sys.executable]), str(WORKER)]

    @property
    def environment(self) -> dict[str, str]:
        found = dict(os.environ)
        if self.python:  # a foreign interpreter must not find our packages
            found.pop("PYTHONPATH", None)
            found.pop("PYTHONHOME", None)
        found |= {
            "MUJOCO_GL": self.graphics,
            "PYOPENGL_PLATFORM": self.graphics,
            "PYTHONUNBUFFERED": "1",
        }
        found.setdefault(
            "OMP_NUM_THREADS", "1"
        )  # as many processes as cores: a thread per core for each would fight
        return found


def check_simulator(benchmark: Benchmark, python: str) -> None:
    """Raises EmtError where the interpreter cannot be started or has no such simulator.

    Nothing of the simulator is imported. python: as in Launch.
    """
    if not benchmark.module:
        return
    command = shlex.split(python) or [sys.executable]
    code = _search_module(tuple(command), benchmark.module)
    if code is None:
        raise EmtError(
            "the simulator's interpreter cannot be started",
            where=python,
            remedy="`evaluate.python` names it, for example venvs/libero/bin/python",
        )
    if code:
        raise EmtError(
            f"{benchmark.title} is not installed: {command[0]} has no module {benchmark.module!r}",
            where="evaluate.python",
            remedy=benchmark.install,
        )


@lru_cache(maxsize=32)
def _search_module(command: tuple[str, ...], module: str) -> int | None:
    """0 where the interpreter finds the module, 1 where not, None where it does not start."""
    if command == (sys.executable,):
        return int(find_spec(module) is None)
    script = (
        f"from importlib.util import find_spec; raise SystemExit(find_spec({module!r}) is None)"
    )
    clean = {name: v for name, v in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(
            [*command, "-c", script], env=clean, capture_output=True, timeout=START_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.returncode if done.returncode in (0, 1) else None


def graphics_backends() -> tuple[str, ...]:
    """Off-screen GL to try in order: MUJOCO_GL if it is set, EGL, then OSMesa (same pixels)."""
    asked = os.environ.get("MUJOCO_GL", "egl")
    return ("egl", "osmesa") if asked == "egl" else (asked,)


class Worker:
    """One process. state: starting, opening, idle, busy (its turn) or waiting (for actions)."""

    def __init__(self, launch: Launch, number: int) -> None:
        self.launch = launch
        self.number = number
        self.lives = 0
        self.state = "ended"
        self.since = 0.0
        self.last_task = ""
        self.log = launch.folder / f"{number}.log"

    def start(self) -> None:
        """Spawn; returns at once. Raises EmtError where the interpreter cannot be started."""
        self.lives += 1
        address = self.launch.folder / f"{self.number}-{self.lives}"
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(address))
        self.socket.listen(1)
        try:
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(
                    [*self.launch.command, str(address)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self.launch.environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise EmtError(
                f"the simulator's interpreter cannot be started ({error.strerror})",
                where=" ".join(self.launch.command[:-1]),
                remedy="`evaluate.python` names it, for example venvs/libero/bin/python",
            ) from error
        self._become("starting")

    def fileno(self) -> int:
        return self.socket.fileno()

    def accept(self, timeout_s: float) -> None:
        """The worker has connected: tell it which simulator to open."""
        listener = self.socket
        self.socket = self.socket.accept()[0]
        listener.close()
        self.socket.settimeout(timeout_s)
        self.send(
            "open", {"simulator": self.launch.simulator, "settings": dict(self.launch.settings)}
        )
        self._become("opening")

    def send(
        self,
        kind: str,
        fields: Mapping[str, Any] | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        wire.send(self.socket, kind, fields, arrays)

    def receive(self) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        return wire.receive(self.socket)

    def turn(self, state: str) -> None:
        self._become(state)

    def overdue(self, timeout_s: float) -> bool:
        """Whether its reply is overdue. Coming up (imports, on a busy machine) has more time."""
        limits = {
            "starting": max(timeout_s, START_S),
            "opening": max(timeout_s, START_S),
            "busy": timeout_s,
        }
        return self.state in limits and time.monotonic() - self.since > limits[self.state]

    def gone(self) -> bool:
        """Died before it connected: nothing on the socket would ever say so."""
        return self.state == "starting" and self.process.poll() is not None

    def last_words(self) -> str:
        """The end of its log, one line."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES, 0))
                lines = file.read().decode("utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def end(self, *, kindly: bool = False) -> None:
        """Close politely or kill, its children included. Idempotent."""
        if self.state == "ended":
            return
        try:
            if kindly and self.state == "idle":
                self.send("close")
                self.process.wait(GRACE_S)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self.socket.close()
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                self.process.kill()
        self.process.wait()
        self._become("ended")

    def _become(self, state: str) -> None:
        self.state = state
        self.since = time.monotonic()
