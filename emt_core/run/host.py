"""What this machine leaves to a process: cores and main memory, within the bounds of a container.

A container's bound is its control group's, of version 1 or 2, or that of a group above it. Python
and psutil see the whole machine instead, and who goes beyond the bound is killed without a word.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")

UNBOUNDED = 2**60
"""Version 1 writes a number near 2**63 where there is no bound."""


@dataclass(frozen=True)
class Memory:
    """Bytes of main memory."""

    total: int
    """Of the machine, or the container's bound where that is lower."""

    free: int
    """What can be taken now; caches that the system would give up count as free."""

    bounded: bool = False
    """Whether a container's bound decides how much is free."""


def memory() -> Memory:
    """The least of what the machine and each bound of the container leave."""
    machine = psutil.virtual_memory()
    found = [Memory(machine.total, machine.available)]
    for folder in _groups("memory"):
        bound = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if bound is None or used is None or bound >= min(machine.total, UNBOUNDED):
            continue
        free = bound - used + _reclaimable(folder)
        found.append(Memory(bound, min(max(free, 0), bound), bounded=True))
    return min(found, key=lambda one: one.free)


def cores() -> int:
    """Cores that this process may keep busy: its affinity, or the container's share of time."""
    usable = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    for folder in _groups("cpu"):
        usable = min([usable, *_quota(folder)])
    return max(usable, 1)


def threads_beside(workers: int, given: int) -> int:
    """Threads for a model, so that each of `workers` decoding processes has a core of its own.

    given: what torch would take (OMP_NUM_THREADS), never exceeded. Beside busy neighbors two
    threads on two cores with two workers took nine times as long as one.
    """
    return max(min(given, cores() - workers), 1)


def _groups(controller: str) -> Iterator[Path]:
    """Folders of this process's group and of those above it."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = GROUPS / controllers if controllers else GROUPS
        own = PurePosixPath(path.lstrip("/"))
        for group in (own, *own.parents):  # in a container some of these folders are not seen
            yield root / group


def _number(*files: Path) -> int | None:
    """The number in the first of these files that is there; None for `max` and without a file."""
    for file in files:
        with suppress(OSError, ValueError):
            return int(file.read_text())
    return None


def _reclaimable(folder: Path) -> int:
    """File caches that the group counts as its own and the system gives up when asked for room."""
    with suppress(OSError, ValueError):
        pairs = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        stat = {name: int(value) for name, value in pairs}
        return stat.get("total_inactive_file", stat.get("inactive_file", 0))
    return 0


def _quota(folder: Path) -> list[int]:
    """Whole cores that a group's share of time is worth; empty where it has no bound."""
    with suppress(OSError, ValueError):
        share, period = (folder / "cpu.max").read_text().split()
        return [int(share) // int(period)]
    share = _number(folder / "cpu.cfs_quota_us")
    period = _number(folder / "cpu.cfs_period_us")
    return [share // period] if share and period and share > 0 else []
