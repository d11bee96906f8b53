"""Embedded rows are used again only by a run of the same arithmetic, whatever the settings say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_index import embed_plan, make_samples, write_sources
from tiny_models import save_internvl

from emt_core.data.features import Features
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import read_json, write_json

ROWS = {"pool": 12, "arm": 6}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    save_internvl(tmp_path / "model")
    return tmp_path


def embed(world: Path, workspace: str, order: Sequence[str], precision: str) -> Artifact:
    """order: of the sources; another one is another run over the same rows."""
    folder = Workspace.open(world / workspace, create=True)
    roots = {}
    for name in order:
        role = "robot" if name == "arm" else "pool"
        roots[name] = (world / name, make_samples(name, ROWS[name], world / name, role=role))
    config = {"encoder": "vlm", "model": "model", "precision": precision}
    runtime = {"workers": 0, "batch": 8, "device": "cpu"}
    plan = embed_plan(write_sources(folder, roots), world, config, runtime)
    return run_plan(plan, folder, quiet=True)["embed"]


def vectors(artifact: Artifact) -> np.ndarray:
    features = Features.at(artifact.data / "features.lance")
    return features.take(np.arange(features.rows))


def test_rows_of_another_arithmetic_are_embedded_anew(world: Path):
    """`precision: auto` is bfloat16 on a GPU and float32 on a CPU: one setting, two arithmetics.

    The first artifact is what a GPU leaves: vectors in bfloat16, settings that say auto.
    """
    from_gpu = embed(world, "ws", ("pool", "arm"), "bfloat16")
    assert from_gpu.metrics["dtype"] == "bfloat16"
    manifest = read_json(from_gpu.path / "manifest.json")
    manifest["config"]["precision"] = "auto"
    write_json(from_gpu.path / "manifest.json", manifest)

    found = embed(world, "ws", ("arm", "pool"), "auto")
    assert found.metrics["dtype"] == "float32" and found.metrics["reused"] == 0
    fresh = embed(world, "other", ("arm", "pool"), "auto")
    np.testing.assert_array_equal(vectors(found), vectors(fresh))
    in_the_others_order = np.concatenate([vectors(from_gpu)[12:], vectors(from_gpu)[:12]])
    assert np.abs(in_the_others_order - vectors(found)).max() > 1e-3

    again = embed(world, "ws", ("pool", "arm"), "auto")  # what was made on the CPU will do
    assert again.metrics["reused"] == 18
    np.testing.assert_array_equal(vectors(again)[12:], vectors(found)[:6])
