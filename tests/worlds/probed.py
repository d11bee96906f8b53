"""Probe, retain and evaluate artifacts with planted errors, in a workspace, for tables and pages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from emt_core.training.probe.tables import SCHEMA, write_results
from emt_core.workspace.artifact import Artifact, Workspace

EPISODES = 40
GROUPS = ("vision_early", "vision_late", "projector", "language_early", "language_late")


def commit(
    space: Workspace, stage: str, key: str, *, parents: Mapping[str, str], **manifest: Any
) -> Artifact:
    """Finish what lies in the building folder."""
    made = {"stage": stage, "key": key, "labels": [stage], "recipe": "r", "parents": dict(parents)}
    made |= {"config": {}, "rows": 1, "metrics": {}, "started": 0.0, "seconds": 1.0}
    space.commit(stage, key, made | {"finished": time.time()} | manifest)
    found = space.find(stage, key)
    assert found is not None
    return found


def probed(
    space: Workspace,
    key: str,
    error: float,
    *,
    midtrain: str = "",
    alpha: float = 1.0,
    asked: str = "asked",
    task: float = 0.2,
) -> Artifact:
    """error: share of the base that the action probes leave; task: share of wrong frames."""
    data = space.building("probe", key) / "data"
    data.mkdir(parents=True)
    rng = np.random.default_rng(0)  # the same episodes are hard for every model
    hard = rng.uniform(0.9, 1.1, EPISODES)
    rows = [
        {"probe": probe, "head": head, "seed": 0, "seen": seen, "set": "arm", "episode": number}
        | {
            "task": f"task {number % 4}",
            "frames": 8,
            "base": 8.0,
            "error": 8 * share * hard[number],
        }
        for probe, share in (("action", error), ("task", task))
        for head in ("linear", "mlp")
        for seen in ((True, False) if probe == "action" else (True,))
        for number in range(EPISODES)
    ]
    drift = [
        {"images": kind, "group": group, "cka": 0.9 - 0.1 * place, "overlap": 0.5}
        | {"low": 0.4, "high": 0.6, "samples": 100}
        for kind in ("robot", "selected", "general")
        for place, group in enumerate(GROUPS)
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    results = write_results(data, table, drift if midtrain else [])
    metrics = {"asked": asked, "probes": results["probes"], "drift": results["drift"]}
    config = {"start": "midtrain" if midtrain else "backbone"}
    config |= {"interpolate": alpha} if alpha != 1 else {}
    parents = {"midtrain": midtrain} if midtrain else {}
    return commit(space, "probe", key, parents=parents, config=config, metrics=metrics)


def retained(space: Workspace, key: str, midtrain: str, lost: int) -> Artifact:
    """100 questions, of which `lost` are no longer answered."""
    data = space.building("retain", key) / "data"
    data.mkdir(parents=True)
    table = {"suite": ["demo"] * 100, "origin_correct": [True] * 80 + [False] * 20}
    table["midtrained_correct"] = [number >= lost and number < 80 for number in range(100)]
    parquet.write_table(pa.table(table), data / "answers.parquet")
    return commit(space, "retain", key, parents={"midtrain": midtrain})


def rolled_out(space: Workspace, key: str, midtrain: str, success: float) -> None:
    """A fine-tuning from that mid-training ("": the origin) and its evaluation."""
    parents = {"midtrain": midtrain} if midtrain else {}
    for stage in ("finetune", "evaluate"):
        (space.building(stage, key) / "data").mkdir(parents=True)
    commit(space, "finetune", key, parents=parents)
    metrics = {"success": success}
    commit(space, "evaluate", key, parents={"finetune": key}, metrics=metrics)
