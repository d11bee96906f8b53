"""The probe stage on a tiny random VLM and sets whose pictures tell the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from probe_world import recipe_of, write_probe_world
from small_world import write_pool

from emt_core.errors import EmtError
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.recipe.probe import ProbeConfig
from emt_core.recipe.recipe import build_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.stages import probe as stage
from emt_core.training.probe.features import FrozenVlm
from emt_core.workspace.artifact import Artifact, Workspace


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_probe_world(tmp_path_factory.mktemp("probes"))


def run(raw: dict[str, Any], workspace: Path) -> Artifact:
    torch.set_num_threads(1)
    opened = Workspace.open(workspace, create=True)
    return run_plan(make_plan(build_recipe(raw)), opened, quiet=True)["probe"]


def scores(artifact: Artifact) -> dict[tuple[str, str, bool], dict[str, Any]]:
    found = json.loads((artifact.data / "results.json").read_text())["probes"]
    return {(row["probe"], row["head"], row["seen"]): row for row in found}


@pytest.fixture(scope="module")
def asked(world: Path) -> tuple[Artifact, int, int]:
    """A run that is cut off while it looks at frames, and gone on with."""
    looked: list[int] = []
    features = FrozenVlm.features

    def cut_off(self: FrozenVlm, frames: np.ndarray, instructions: Any) -> np.ndarray:
        if len(looked) == 5:
            looked.append(0)
            raise KeyboardInterrupt
        looked.append(len(frames))
        return features(self, frames, instructions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrozenVlm, "features", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run(recipe_of(world), world / "w")
        artifact = run(recipe_of(world), world / "w")
    return artifact, len(looked) - 1, sum(looked)


def test_what_the_picture_tells_is_found(asked: tuple[Artifact, int, int]):
    artifact, calls, frames = asked
    assert (calls, frames, artifact.rows) == (20, 160, 160)  # none twice
    found = scores(artifact)
    assert set(found) == {
        (probe, head, seen)
        for probe in ("action", "hand", "task")
        for head in ("linear", "mlp")
        for seen in (True, False)
        if not (probe == "task" and not seen)
    }
    for probe, least in (("action", 0.5), ("hand", 0.5), ("task", 0.9)):
        row = found[probe, "linear", True]
        assert row["score"] > least, (probe, row)
        assert row["low"] <= row["score"] <= row["high"]
        assert row["episodes"] == 16 and row["frames"] == 128
    assert found["action", "linear", False]["episodes"] == 4
    assert len(found["action", "mlp", True]["by_seed"]) == 2
    assert not (artifact.data / "features").exists() and not (artifact.data / "fits").exists()


def test_each_episode_has_its_errors_and_they_add_up(asked: tuple[Artifact, int, int]):
    artifact, *_ = asked
    rows = pq.read_table(artifact.data / "episodes.parquet").to_pylist()
    mine = [r for r in rows if (r["probe"], r["head"], r["seen"]) == ("action", "linear", True)]
    assert sorted(row["episode"] for row in mine) == list(range(16))
    score = 1 - sum(row["error"] for row in mine) / sum(row["base"] for row in mine)
    assert scores(artifact)["action", "linear", True]["score"] == pytest.approx(score)


def test_what_the_sets_do_not_hold_is_told_before(world: Path, tmp_path: Path):
    with pytest.raises(EmtError, match="speed"):
        run(recipe_of(world, hand=["observation.speed"]), tmp_path / "w")
    with pytest.raises(EmtError, match="fewer than two episodes") as found:
        run(recipe_of(world, chunk=9), tmp_path / "w")
    assert "fewer than a chunk of 9" in str(found.value)


def test_an_arm_names_the_weights_that_are_asked(tmp_path: Path):
    raw = {
        "name": "arms",
        "base": str(tmp_path),
        "backbone": "missing",
        "sources": [{"name": "w", "role": "pool", "format": "llava", "path": "w.json"}],
        "embed": {"encoder": "fake"},
        "select": {"strategy": "all"},
        "midtrain": {"interpolate": [0.5]},
        "demos": {},
        "probe": {},
        "arms": {"full": {}, "half": {"probe.interpolate": 0.5}, "bad": {"probe.interpolate": 0.7}}
        | {"none": {"probe.start": "backbone"}},
        "seeds": [0, 1],
    }
    plan = make_plan(build_recipe(raw), whole=False)
    probes = plan.of_stage("probe")
    # the origin is asked once, whatever the seeds; what is asked does not follow them
    assert len(probes) == 3 * 2 + 1
    assert {instance.config.seed for instance in probes} == {0}  # type: ignore[attr-defined]
    (bad, _) = [i for i in probes if i.config.interpolate == 0.7]  # type: ignore[attr-defined]
    with pytest.raises(EmtError, match=r"keeps no weights at 0.7 of the way \(kept: 0.5\)"):
        stage.check(bad, tmp_path)
    assert isinstance(bad.parents["midtrain"].config, MidtrainConfig)
    with pytest.raises(ValueError, match="start: midtrain"):
        ProbeConfig(start="backbone", interpolate=0.5)


def test_drift_stands_beside_a_mid_trained_model_and_a_second_run_makes_nothing(world: Path):
    write_pool(world / "web", 24)
    raw = recipe_of(world, start="midtrain", drift_samples=6, neighbors=2, seeds=1, hand=[])
    raw |= {
        "sources": [
            {"name": "web", "role": "pool", "format": "llava", "path": "web/web.json"}
            | {"image_root": "images"}
        ],
        "select": {"strategy": "random", "k": 10},
        "midtrain": {"steps": 2, "batch": 4, "learning_rate": 0.01, "interpolate": [0.5]},
    }
    artifact = run(raw, world / "w")
    drift = json.loads((artifact.data / "results.json").read_text())["drift"]
    assert {row["images"] for row in drift} == {"robot", "selected", "general"}
    assert len(drift) == 3 * 5
    for row in drift:
        assert 3 <= row["samples"] <= 6 and 0 <= row["cka"] <= 1 + 1e-9
        assert row["low"] <= row["overlap"] <= row["high"]
    assert min(row["cka"] for row in drift) < 0.9999
    half = run(raw | {"probe": raw["probe"] | {"interpolate": 0.5}}, world / "w")
    assert half.key != artifact.key and half.metrics["asked"] == artifact.metrics["asked"]
    origin = run(recipe_of(world, seeds=1, hand=[]), world / "w")
    assert origin.metrics["asked"] == artifact.metrics["asked"] and not origin.metrics["drift"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "run", lambda _: pytest.fail("it was made already"))
        assert run(raw, world / "w").key == artifact.key
