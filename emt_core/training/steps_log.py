"""steps.jsonl: one JSON object a training step, appended while training runs.

    {"step": 12, "loss": 1.93, "learning_rate": 4.8e-05, "grad_norm": 2.1, "samples": 3072,
     "tokens": 98123, "seconds": 31.4, "memory_mb": 812.0}

`samples`, `tokens` (all that went through the model, without padding) and `seconds` are cumulative,
also over interrupted runs. Mid-training adds `data_wait`, the share of the step's time that rank 0
waited for its data, and `validation_loss` at steps where held-out samples are measured. Fine-tuning
adds `loss_arm` and `loss_gripper`. A resumed run drops the lines after its checkpoint, so no step
repeats.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from emt_core.workspace.files import write_text

Track = Callable[[int, Mapping[str, Any]], None]
"""Takes a step and its record, as Tracking.log does."""

SIGNIFICANT = 7
"""Digits kept: float32 has no more."""


def untracked(step: int, record: Mapping[str, Any]) -> None:
    """Of a run that no tracker follows."""


class StepsLog:
    """Appends steps. after: the step of the checkpoint that training goes on from (0: from the
    start). track: gets each step as well, the kept ones included.

    Only one process writes (rank 0). `seconds` counts from the moment of construction, on top of
    what the kept lines say was spent before.
    """

    def __init__(self, path: Path, *, after: int = 0, track: Track = untracked) -> None:
        self.path = path
        self.step = after
        kept = [record for record in iterate_steps(path) if record["step"] <= after]
        write_text(path, "".join(_line(record) for record in kept))
        self.last: dict[str, Any] = kept[-1] if kept else {}
        self._track = track
        for record in kept:
            track(record["step"], record)
        self._spent = float(self.last.get("seconds") or 0.0)
        self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        """Spent so far, interrupted runs included."""
        return self._spent + time.monotonic() - self._since

    def write(self, step: int, values: Mapping[str, float | int | None]) -> dict[str, Any]:
        """Append one step; `seconds` is added. Raises ValueError for a step out of order."""
        if step != self.step + 1:
            raise ValueError(f"step {step} does not follow step {self.step}")
        record = {"step": step, **values, "seconds": self.seconds}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(record))  # one write a line: a reader sees it whole or not at all
        self.step = step
        self.last = record
        self._track(step, record)
        return record


def iterate_steps(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, if it exists; a last line that is being written is passed over."""
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if not line.endswith("\n"):
                return
            try:
                record = json.loads(line)
            except ValueError:
                return  # what follows a torn line cannot be trusted to be in order
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                yield record


def _line(record: Mapping[str, Any]) -> str:
    return (
        json.dumps({name: _plain(value) for name, value in record.items()}, allow_nan=False) + "\n"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT}g}") if math.isfinite(value) else None
    return value
