"""Which evaluate artifacts of a recipe are which arm and seed, and what each found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from emt_core.evaluation.benchmarks.base import FAULTS
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.files import read_json

ALL = "all runs"
"""Arm of an evaluation that every arm of the experiment shares."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One evaluated policy: `evaluate.libero@learned/0` is arm learned, seed 0, instance libero."""

    label: str
    instance: str
    arm: str
    seed: str
    benchmark: str
    artifact: Artifact
    results: Mapping[str, Any]
    """results.json, see docs/architecture.md."""

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The checkpoint that the stated rule reports."""
        return next(
            c for c in self.results["checkpoints"] if c["checkpoint"] == self.results["chosen"]
        )

    def outcomes(self) -> dict[tuple[str, str, int], float]:
        """(training seed, task, layout) -> share of goals reached, at the chosen checkpoint.

        Without episodes that a fault of the simulator ended.
        """
        columns = ["checkpoint", "task", "seed", "completed", "goals", "success", "failure"]
        mine = [("checkpoint", "==", self.results["chosen"])]
        rows = pq.read_table(
            self.artifact.data / "episodes.parquet", columns=columns, filters=mine
        ).to_pylist()
        return {
            (self.seed, row["task"], row["seed"]): (
                float(row["success"]) if row["goals"] == 1 else row["completed"] / row["goals"]
            )
            for row in rows
            if row["failure"] not in FAULTS
        }


def runs_of(done: Mapping[str, Artifact]) -> list[Run]:
    """Every finished evaluation, in the order of the labels. done: label -> artifact
    (workspace/lineage.py).

    In a recipe without arms, several evaluations of one benchmark are told apart by their
    instance's name: that is then the arm.
    """
    found = [
        _run(label, artifact) for label, artifact in done.items() if artifact.stage == "evaluate"
    ]
    if any("@" in run.label for run in found):
        return found
    return [_renamed(run, run.instance or "policy") for run in found]


def comparable(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Name -> the runs that may be compared: those of one benchmark and, in an experiment with
    arms, of one instance.

    The name is the benchmark's; where an experiment evaluates it more than once, the instance
    stands behind it.
    """
    instances: dict[str, dict[str, list[Run]]] = {}
    arms = any("@" in run.label for run in runs)  # without arms the instances are the arms
    for run in runs:
        instances.setdefault(run.benchmark, {}).setdefault(run.instance if arms else "", []).append(
            run
        )
    return {
        benchmark if len(found) == 1 else f"{benchmark} {name}".strip(): mine
        for benchmark, found in instances.items()
        for name, mine in found.items()
    }


def arm_and_seed(label: str) -> tuple[str, str]:
    """Of a label `stage.name@arm/seed`; empty where it has none."""
    arm, _, seed = label.partition("@")[2].partition("/")
    return arm, seed


def _run(label: str, artifact: Artifact) -> Run:
    arm, seed = arm_and_seed(label)
    results = read_json(artifact.data / "results.json")
    return Run(
        label=label,
        instance=label.partition("@")[0].partition(".")[2],
        arm=arm or ALL,
        seed=seed,
        benchmark=results["benchmark"],
        artifact=artifact,
        results=results,
    )


def _renamed(run: Run, arm: str) -> Run:
    return Run(**{**run.__dict__, "arm": arm})


def by_arm(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Arm -> its runs, one a seed, in first-seen order."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.arm, []).append(run)
    return found
