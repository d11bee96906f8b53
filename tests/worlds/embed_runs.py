"""The embed stage run on hand-written sources, and its rows read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_index import embed_plan, make_samples

from emt_core.data.features import Features
from emt_core.run.runner import run_plan

RUNTIME = {"workers": 0, "batch": 8, "commit_rows": 32}


def run(workspace, sources, tmp_path, runtime=RUNTIME, **config):
    plan = embed_plan(sources, tmp_path, {"encoder": "fake"} | config, runtime)
    return run_plan(plan, workspace, quiet=True)["embed"]


def table(artifact):
    features = Features.at(artifact.data / "features.lance")
    return features.take(np.arange(features.rows)), features.table.column("status")


def pool_and_arm(folder: Path):
    """Two sources for `write_sources`: 90 rows of a pool and 40 of a robot set, images on disk."""
    pool, arm = folder / "pool", folder / "arm"
    return {
        "pool": (pool, make_samples("pool", 90, pool)),
        "arm": (arm, make_samples("arm", 40, arm, role="robot", seed=1)),
    }
