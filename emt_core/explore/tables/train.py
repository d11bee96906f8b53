"""Training runs, finished or running, and their curves, read as they grow.

A run is a `midtrain` or `finetune` artifact, or its folder while it is built; both have a
steps.jsonl.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

from emt_core.errors import EmtError
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.clock import within
from emt_core.workspace.files import read_json

STAGES = ("midtrain", "finetune")
CHECKPOINT = re.compile(r"step-0*(\d+)")
ALIVE_S = 120.0
"""A running run without progress for so long has been interrupted."""


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    key: str
    stage: str
    label: str
    recipe: str
    data: Path
    """Folder of steps.jsonl; it moves when the run finishes."""

    building: bool
    total: int | None
    """Steps in all, where that is known."""

    artifact: Artifact | None = None

    @property
    def steps_file(self) -> Path:
        return self.data / "steps.jsonl"


def training_runs(workspace: Workspace, done: Mapping[str, Artifact]) -> list[TrainingRun]:
    """Running runs, then the recipe's runs by label, then all others, each newest first."""
    names = {artifact.key: label for label, artifact in done.items()}
    found = []
    for stage in STAGES:
        for artifact in workspace.artifacts(stage):
            manifest = artifact.manifest
            label = names.get(artifact.key) or next(iter(manifest["labels"]), artifact.key)
            found.append(
                TrainingRun(
                    key=artifact.key,
                    stage=stage,
                    label=label,
                    recipe=manifest["recipe"],
                    data=artifact.data,
                    building=False,
                    total=artifact.config.get("steps"),
                    artifact=artifact,
                )
            )
    found.sort(
        key=lambda run: run.artifact.manifest["finished"] if run.artifact else 0, reverse=True
    )
    found.sort(key=lambda run: run.key not in names)
    return _being_built(workspace) + found


def _being_built(workspace: Workspace) -> list[TrainingRun]:
    found = []
    for stage in STAGES:
        for folder in (workspace.path / stage).glob("*.building"):
            if (folder / "data" / "steps.jsonl").exists():
                progress = _progress(folder)
                found.append(
                    TrainingRun(
                        key=folder.name.removesuffix(".building"),
                        stage=stage,
                        label=progress.get("label") or stage,
                        recipe="",
                        data=folder / "data",
                        building=True,
                        total=progress.get("total") if progress.get("unit") == "steps" else None,
                    )
                )
    return found


def _progress(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / "progress.json")
    except (OSError, EmtError):
        return {}


def at_work(run: TrainingRun) -> bool:
    """Whether the run is training now, as far as its progress tells."""
    return run.building and within(float(_progress(run.data.parent).get("at") or 0), ALIVE_S)


@dataclass(frozen=True)
class Kept:
    """A model state on disk. kind: `checkpoint` (to resume), `policy` (to evaluate) or `model`."""

    kind: str
    step: int | None
    bytes: int
    at: float
    """Seconds since the epoch."""


def kept_states(run: TrainingRun) -> list[Kept]:
    """Model states on disk, in rising steps, without folders still being written."""
    found = []
    for kind, pattern in (
        ("checkpoint", "checkpoints/step-*"),
        ("policy", "policies/step-*"),
        ("model", "model"),
    ):
        for folder in run.data.glob(pattern):
            match = CHECKPOINT.fullmatch(folder.name)
            try:
                sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
                at = folder.stat().st_mtime
            except FileNotFoundError:
                continue  # an older checkpoint that was removed while we looked
            found.append(Kept(kind, int(match[1]) if match else run.total, sum(sizes), at))
    return sorted(found, key=lambda kept: (kept.step or 0, kept.kind))


class GrowingSteps:
    """steps.jsonl of a run that may still grow: each read reads what was added. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reading = Lock()
        self._clear()

    def _clear(self) -> None:
        self._at = 0
        self._inode: tuple[int, int] | None = None
        self._records: list[dict[str, Any]] = []
        self._frame: pd.DataFrame | None = None

    def read(self) -> pd.DataFrame:
        """A row per step: step, loss, learning_rate, grad_norm, samples, tokens, seconds, ...

        NaN where unknown; steps rising. Empty where there is no file yet.
        """
        with self._reading:
            return self._read()

    def _read(self) -> pd.DataFrame:
        try:
            with self.path.open("rb") as file:
                facts = self._facts(file)
                if facts != self._inode or file.seek(0, io.SEEK_END) < self._at:
                    self._clear()  # a resumed run has written the file anew
                    self._inode = facts
                file.seek(self._at)
                added = file.read()
        except FileNotFoundError:
            self._clear()
            return pd.DataFrame({"step": []})
        whole = added[: added.rfind(b"\n") + 1]
        self._at += len(whole)
        new = [record for line in whole.splitlines() if (record := _record(line)) is not None]
        if new or self._frame is None:
            self._records += new
            frame = pd.DataFrame(self._records or {"step": []})
            for name in frame:
                frame[name] = pd.to_numeric(frame[name], errors="coerce")
            self._frame = frame
        return self._frame

    @staticmethod
    def _facts(file: Any) -> tuple[int, int]:
        import os

        facts = os.fstat(file.fileno())
        return facts.st_dev, facts.st_ino


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def smoothed(values: np.ndarray, weight: float) -> np.ndarray:
    """Bias-corrected exponential moving average; NaN is skipped.

    values: float [n]. weight in [0, 1): share of the past in each point; 0 changes nothing.
    """
    if not 0 <= weight < 1:
        raise ValueError("weight lies in [0, 1)")
    out = np.full(len(values), np.nan)
    level = norm = 0.0
    for place, value in enumerate(np.asarray(values, float)):
        if np.isfinite(value):
            level = weight * level + (1 - weight) * value
            norm = weight * norm + (1 - weight)
        if norm:
            out[place] = level / norm
    return out


def with_rates(frame: pd.DataFrame, window: int = 20) -> pd.DataFrame:
    """The frame with `samples_per_second` and `tokens_per_second` over the last `window` steps."""
    frame = frame.copy()
    for name in ("samples", "tokens"):
        if name in frame and "seconds" in frame and len(frame):
            # before the first step nothing was seen in no time
            seen = np.concatenate([[0.0], frame[name].to_numpy(float)])
            spent = np.concatenate([[0.0], frame["seconds"].to_numpy(float)])
            behind = np.maximum(np.arange(1, len(seen)) - window, 0)
            passed = spent[1:] - spent[behind]
            rate = (seen[1:] - seen[behind]) / np.where(passed > 0, passed, np.nan)
            frame[f"{name}_per_second"] = rate
    return frame
