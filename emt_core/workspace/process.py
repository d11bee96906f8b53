"""Which process it was: a pid alone is reused, by another program and after every reboot."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path
from typing import Any

import psutil


def mark_of(pid: int) -> dict[str, Any]:
    """`pid host boot started` of a live process. Raises psutil.NoSuchProcess.

    started: clock ticks after boot on Linux (a clock that is set right later does not move them),
    else seconds since the epoch.
    """
    return {"pid": pid, "host": socket.gethostname(), "boot": _boot(), "started": _started(pid)}


def here(mark: dict[str, Any]) -> bool:
    """Whether the process belongs to this machine (a workspace may lie on a disk that several
    share)."""
    return mark.get("host") == socket.gethostname()


def find(mark: dict[str, Any]) -> psutil.Process | None:
    """The process of that mark, if it still runs on this machine in this boot; a stranger with its
    pid is not it."""
    if not here(mark) or mark.get("boot") != _boot():
        return None
    try:
        process = psutil.Process(mark["pid"])
        if (
            abs(_started(mark["pid"]) - mark["started"]) > 1
            or process.status() == psutil.STATUS_ZOMBIE
        ):
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process, its descendants and, where it leads a session of its own, whatever else lives in
    that session."""
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
    except (
        FileNotFoundError,
        ProcessLookupError,
    ):  # no /proc on this system, or it died between opening and reading
        return psutil.Process(pid).create_time()
    # the name of the program, in brackets, may hold blanks and brackets itself; field 22 counts
    # from the pid
    return float(stat.rpartition(")")[2].split()[19])


def rank() -> int:
    """This process's rank; 0 outside torchrun."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def world_size() -> int:
    """Processes of this launch; 1 outside torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))
