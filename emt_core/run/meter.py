"""What building an artifact took: seconds, peak memory, versions of the packages that built it."""

from __future__ import annotations

import platform
import threading
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from emt_core.workspace.files import read_json_if_there, write_json

RECORDED_PACKAGES = (
    "embodied-midtrain",
    "torch",
    "transformers",
    "open_clip_torch",
    "pylance",
    "umap-learn",
    "numpy",
)


class Meter:
    """Seconds (summed over interrupted runs) and peak resident memory, child processes included.

    All stages of a run share one process, whose memory only grows. What a stage costs is therefore
    `added_mb`, the peak above the memory at its start, rather than the peak itself.
    """

    EVERY_S = 1.0
    """Time between two looks at the memory."""

    NOTED_EVERY_S = 5.0
    """How much of the time spent a kill may lose."""

    def __init__(self, elapsed: Path) -> None:
        self.elapsed = elapsed
        self.start_mb = self.peak_mb = _resident_mb()
        self.earlier = (read_json_if_there(elapsed) or {"seconds": 0.0})["seconds"]
        self.begun = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.begun

    @property
    def added_mb(self) -> float:
        return self.peak_mb - self.start_mb

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._note()

    def _watch(self) -> None:
        noted = 0.0
        while True:
            self.peak_mb = max(self.peak_mb, _resident_mb())
            if time.monotonic() - noted >= self.NOTED_EVERY_S:
                noted = time.monotonic()
                self._note()
            if self._stop.wait(self.EVERY_S):
                return

    def _note(self) -> None:
        with suppress(OSError):  # a full disk is reported by the stage itself
            write_json(self.elapsed, {"seconds": self.seconds}, durable=False)


def _resident_mb() -> float:
    """Resident memory of this process and its children."""
    me = psutil.Process()
    total = 0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.Error):  # it has just ended
            total += process.memory_info().rss
    return total / 2**20


def versions() -> dict[str, Any]:
    found: dict[str, Any] = {"python": platform.python_version()}
    there = ((package, installed_version(package)) for package in RECORDED_PACKAGES)
    found |= {package: known for package, known in there if known is not None}
    found["commit"] = _commit()
    return found


def installed_version(package: str) -> str | None:
    """None where the package is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The code's git commit, where the package lies in a checkout."""
    git = Path(__file__).parents[2] / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        return (git / head[5:]).read_text().strip()
    except OSError:
        return None
