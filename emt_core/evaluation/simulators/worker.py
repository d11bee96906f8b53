"""One simulator in a process and interpreter of its own: a script, never imported by the package.

    PYTHON emt_core/evaluation/simulators/worker.py SOCKET

It connects to the Unix socket SOCKET and speaks messages of simulators/wire.py:

    host    open {simulator, settings}
    worker  ready {versions, action_dim} | failed {reason, message}
    host    begin {episode's facts}
    worker  observation {instruction, step} + images [1, H, W, 3]
    host    actions + actions [k, A]
    worker  observation ... | end {success, steps, completed}
    host    abandon (in place of actions): the worker waits for the next begin

Beside the images goes `state` [S] where the simulator tells the robot's; Benchmark.state names its
dimensions. A frame is asked for only where a policy will see it: once a chunk. Whatever goes wrong
inside the simulator is sent as `error {message}`, and the host starts a new worker. Standard
library, NumPy and the simulator; Python 3.8 syntax.
"""

from __future__ import annotations

import ctypes
import importlib
import platform
import signal
import socket
import sys
import traceback

import numpy as np
import wire  # pyright: ignore[reportMissingImports]

MODULES = {"metaworld", "libero", "simpler_bridge", "calvin_abcd", "rehearsal"}


def main(address):
    die_with_parent()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    simulator = opened(connection)
    if simulator is None:
        return
    try:
        while True:
            kind, episode, _ = hear(connection)
            if kind == "close":
                break
            if kind == "begin":
                run_episode(connection, simulator, episode)
    except HostGone:
        pass
    finally:
        simulator.close()


class HostGone(Exception):
    """The other end of the socket is closed or talks nonsense: not the simulator's fault."""


def tell(connection, kind, fields, arrays=None):
    try:
        wire.send(connection, kind, fields, arrays)
    except OSError as error:
        raise HostGone from error


def hear(connection):
    try:
        return wire.receive(connection)
    except (EOFError, OSError, wire.WireError) as error:
        raise HostGone from error


def die_with_parent():
    """On Linux the kernel ends the worker when its host is killed, even inside a hung simulator."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def opened(connection):
    """The simulator that the first message asks for, or None after saying why it cannot be had."""
    _, asked, _ = wire.receive(connection)
    try:
        if asked["simulator"] not in MODULES:
            raise ValueError("unknown simulator {!r}".format(asked["simulator"]))
        module = importlib.import_module(asked["simulator"] + "_sim")
        simulator = module.Simulator(asked["settings"])
    except ImportError as error:
        return refuse(connection, "missing", error)
    except Exception as error:
        words = (type(error).__name__ + str(error) + traceback.format_exc()).lower()
        graphics = any(
            name in words
            for name in ("egl", "opengl", "osmesa", "gl_context", "glcontext", "mujoco_gl")
        )
        return refuse(connection, "graphics" if graphics else "broken", error)
    facts = {
        "python": platform.python_version(),
        "versions": simulator.versions(),
        "action_dim": simulator.action_dim,
    }
    wire.send(connection, "ready", facts)
    return simulator


def refuse(connection, reason, error):
    traceback.print_exc()
    message = f"{type(error).__name__}: {error}"
    wire.send(connection, "failed", {"reason": reason, "message": message[:2000]})


def run_episode(connection, simulator, episode):
    """One episode, up to its `end` (or `error`, or the host's `abandon`).

    episode: `max_steps` a goal; `success_at`: `any` ends the episode at the first success, `end`
    judges its last step; `privileged`: the simulator's own controller acts instead of the host; the
    rest is the simulator's.
    """
    try:
        instruction = simulator.begin(episode)
        if episode.get("privileged"):
            tell(connection, "end", privileged(simulator, episode))
            return
        count = Count(simulator, episode, instruction)
        while not count.over:
            seen = {"instruction": count.instruction, "step": count.steps}
            arrays = {"images": simulator.frame()[None]}
            if hasattr(simulator, "state"):
                arrays["state"] = np.asarray(simulator.state(), np.float32)
            tell(connection, "observation", seen, arrays)
            kind, _, arrays = hear(connection)
            if kind != "actions":
                return
            count.execute(arrays["actions"])
        tell(connection, "end", count.summary())
    except HostGone:
        raise
    except Exception as error:
        traceback.print_exc()
        tell(connection, "error", {"message": f"{type(error).__name__}: {error}"[:2000]})


def privileged(simulator, episode):
    """The simulator's own controller; where it has none, zeros, which show that it plays."""
    count = Count(simulator, episode, "")
    still = np.zeros(simulator.action_dim)
    while not count.over:
        count.execute([simulator.expert() if hasattr(simulator, "expert") else still])
    return count.summary()


class Count:
    """Steps, goals reached, and when it is over."""

    def __init__(self, simulator, episode, instruction):
        self.simulator = simulator
        self.instruction = instruction
        self.most = episode["max_steps"]
        self.at_end = episode.get("success_at") == "end"
        self.steps = self.goal_steps = self.completed = 0
        self.over = self.success = False

    def execute(self, actions):
        """One chunk; what is left of it is dropped where the goal changes."""
        for action in actions:
            solved = self.simulator.step(action)
            self.steps += 1
            self.goal_steps += 1
            if solved and not self.at_end:
                self._next_goal()
                return
            if self.goal_steps >= self.most:
                self.over = True
                self.success = bool(solved)
                self.completed += int(self.success)
                return

    def _next_goal(self):
        self.completed += 1
        self.goal_steps = 0
        following = self.simulator.next_goal()
        if following is None:
            self.over = self.success = True
        else:
            self.instruction = following

    def summary(self):
        return {"success": self.success, "steps": self.steps, "completed": self.completed}


if __name__ == "__main__":
    main(sys.argv[1])
