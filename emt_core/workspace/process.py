"""Processes: recognize one later (its pid alone may belong to another program then), end with
one."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil

LAUNCHED = "EMT_LAUNCHED"
"""Set for the processes that a run launches to make one artifact: they are no job of their own."""

GRACE_S = 30.0
"""A command that was asked to stop is killed after this long."""


def mark_of(pid: int) -> dict[str, Any]:
    """`pid host boot started` of a live process. Raises psutil.NoSuchProcess.

    started: clock ticks after boot on Linux (a clock that is set right later does not move them),
    else seconds since the epoch.
    """
    return {"pid": pid, "host": socket.gethostname(), "boot": _boot(), "started": _started(pid)}


def here(mark: dict[str, Any]) -> bool:
    """Whether the process is of this machine; several may share the workspace's disk."""
    return mark.get("host") == socket.gethostname()


def find(mark: dict[str, Any]) -> psutil.Process | None:
    """The marked process if it still runs here; another one that has its pid now does not count."""
    if not here(mark) or mark.get("boot") != _boot():
        return None
    try:
        process = psutil.Process(mark["pid"])
        same = abs(_started(mark["pid"]) - mark["started"]) <= 1
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def age(mark: dict[str, Any]) -> float | None:
    """Seconds that a marked process of this machine has run, whatever the clock was set to since.

    None where the system does not say.
    """
    if not here(mark) or not mark.get("boot") or mark["boot"] != _boot():
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - mark["started"] / ticks, 0.0)


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process, its descendants, and all processes of the session that it leads."""
    found = {process.pid: process}
    try:
        found |= {child.pid: child for child in process.children(recursive=True)}
    except psutil.NoSuchProcess:
        return [process]
    return list((found | {member.pid: member for member in session_of(process.pid)}).values())


def session_of(leader: int) -> list[psutil.Process]:
    """Processes of the session that this pid leads, also those whose parents are gone."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader:
                found.append(psutil.Process(pid))
        except (OSError, psutil.NoSuchProcess):
            continue
    return found


@cache
def _boot() -> str:
    """Names this boot of the machine; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # no /proc here, or it has just died
        return psutil.Process(pid).create_time()
    # field 22; the program's name, in brackets, may hold blanks and brackets itself
    return float(stat.rpartition(")")[2].split()[19])


def rank() -> int:
    """This process's rank; 0 outside torchrun."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def world_size() -> int:
    """Processes of this launch; 1 outside torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def speaks() -> bool:
    """Whether this process leads its run: no rank 1 and up, nor launched by a run that leads."""
    return not rank() and LAUNCHED not in os.environ


def run_to_end(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command with further variables; returns its exit code.

    When this process is stopped, so is the command: killed where it takes longer than GRACE_S. When
    this one is killed, Linux asks the command to stop.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def stop_with_parent() -> None:
        if prctl is not None:
            prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    process = subprocess.Popen(
        command, env=os.environ | dict(environment), preexec_fn=stop_with_parent
    )
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
            process.kill()
            process.wait()


def live_and_die_with_parent() -> None:
    """Set up a worker: Ctrl-C is left to the parent, and it dies when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
