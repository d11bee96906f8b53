"""kill -9 at ten random moments of `score`, then resume: the same bytes as a run that nobody
disturbed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from synthetic import Made, make_workspace, pool, robot, run_stage, stage_key

from emt_core.recipe.base import Runtime
from emt_core.recipe.proximity import EstimatorConfig, ScoreConfig
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.table import Table

KILLS, COMMIT = 10, 256
CONFIG = ScoreConfig(sweep_sample=200)
SOURCES = [pool("web", 30_000, no_vector=0.02), robot("arm", 3_000, mean=3.0)]


def score(workspace: str) -> None:
    """What the killed processes do: the real stage, on what an earlier one left."""
    space = Workspace.open(workspace)
    made = Made(
        space, {stage: space.artifacts(stage)[0] for stage in ("sources", "embed", "estimator")}
    )
    run_stage(made, "score", CONFIG, runtime=Runtime(workers=0, commit_rows=COMMIT))


@pytest.mark.timeout(600)
def test_ten_kills_leave_no_trace(tmp_path):
    # real processes, forked from one that has done the imports: ten times torch would take minutes
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["torch", "lance", "safetensors.numpy", "emt_core.stages.score"]
    )
    made = make_workspace(tmp_path, SOURCES, dim=32)
    run_stage(made, "estimator", EstimatorConfig(steps=20))
    parents = {stage: made.artifacts[stage] for stage in ("sources", "embed", "estimator")}
    key = stage_key("score", CONFIG, parents)
    building = made.workspace.building("score", key)
    versions = building / "data" / "scores.lance" / "_versions"
    commits = -(-33_000 // COMMIT)
    draw = random.Random(20)
    targets = sorted(draw.randint(0, commits * 9 // 10) for _ in range(KILLS - 1))
    targets.append(commits)  # every row is committed: the sweep is being made

    seen = []
    for target in targets:
        child = processes.Process(target=score, args=(str(tmp_path),))
        child.start()
        while child.is_alive() and len(list(versions.glob("*.manifest"))) < target:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.02) if target < commits else 0)
        assert child.is_alive(), (
            f"it ended with {child.exitcode} before the kill at commit {target}"
        )
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        seen.append(Table(building / "data" / "scores.lance").rows)
    assert made.workspace.find("score", key) is None
    assert seen == sorted(seen) and len(set(seen)) >= 5, f"committed rows after each kill: {seen}"

    final = processes.Process(target=score, args=(str(tmp_path),))
    final.start()
    final.join()
    assert final.exitcode == 0
    resumed = made.workspace.find("score", key)
    fresh = make_workspace(tmp_path / "fresh", SOURCES, dim=32)
    whole = run_stage(
        fresh, "score", CONFIG, parents=parents, runtime=Runtime(workers=0, commit_rows=50_000)
    )
    got, want = (Table(a.data / "scores.lance").column("logit") for a in (resumed, whole))
    assert np.array_equal(got.view(np.uint32), want.view(np.uint32))  # bit for bit, NaN included
    sweeps = (pd.read_parquet(artifact.data / "sweep.parquet") for artifact in (resumed, whole))
    assert_frame_equal(*sweeps, check_exact=True)
    assert resumed.metrics == whole.metrics
