"""midtrain.validation_share and keep_steps: what is held out, its loss, weights on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import small_world
from tiny_models import save_internvl

from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.models.vlm.load import load_processor, load_vlm
from emt_core.proximity.groups import groups_of
from emt_core.proximity.split import held_out
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.training.midtrain.batches import Selection
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.loss import SupervisedLoss
from emt_core.training.midtrain.micro_batch import collate
from emt_core.training.midtrain.session import Session
from emt_core.training.steps_log import iterate_steps
from emt_core.workspace.artifact import Artifact, Workspace

RECIPE = """
name: train
backbone: tiny
runtime: {workers: 0, commit_rows: 64, batch: 3}
sources: [{name: web, role: pool, format: llava, path: web/web.json, image_root: images}]
embed: {encoder: fake}
category: {}
select: {strategy: random, k: 30, include_text_only: true}
midtrain: {steps: 4, batch: 6, cutoff: 160, learning_rate: 0.01, max_images: 2}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_world(tmp_path_factory.mktemp("world"), episodes=2, pool_rows=40)
    save_internvl(folder / "tiny")
    (folder / "train.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def ws(world: Path) -> Workspace:
    return Workspace.open(world / "ws", create=True)


def midtrain(world: Path, ws: Workspace, *overrides: str) -> dict[str, Artifact]:
    plan = make_plan(load_recipe(world / "train.yaml", overrides))
    return run_plan(plan, ws, until="midtrain", quiet=True)


@pytest.fixture(scope="module")
def held_run(world: Path, ws: Workspace) -> tuple[dict[str, Artifact], dict[int, set[int]]]:
    """A run with a third held out; rows that were asked for, by the number of rows there were."""
    seen: dict[int, set[int]] = {}
    with pytest.MonkeyPatch.context() as patch:
        made = Selection.micro_batch

        def recorded(self: Selection, places: Any) -> Any:
            rows = self.rows[np.asarray(places, np.int64)].tolist()
            seen.setdefault(len(self.rows), set()).update(rows)
            return made(self, places)

        patch.setattr(Selection, "micro_batch", recorded)
        overrides = ("midtrain.validation_share=0.34", "midtrain.validation_every=3")
        return midtrain(world, ws, *overrides), seen


def test_held_out_samples_are_measured_and_never_trained_on(held_run):
    made, seen = held_run
    rows = made["midtrain"].metrics["validation"]["rows"]
    assert set(seen) == {rows, 30 - rows} and 5 <= rows <= 15
    measured, trained = seen[rows], seen[30 - rows]
    assert len(measured) == rows and len(trained) == 30 - rows  # more than an epoch
    groups = groups_of(Index(made["sources"]))
    assert not set(groups[list(measured)]) & set(groups[list(trained)])


def test_its_loss_is_that_of_the_saved_model(held_run, world: Path):
    made, seen = held_run
    steps = list(iterate_steps(made["midtrain"].data / "steps.jsonl"))
    assert [record["step"] for record in steps if "validation_loss" in record] == [3, 4]
    metrics = made["midtrain"].metrics["validation"]
    assert metrics["last_loss"] == steps[-1]["validation_loss"]
    assert metrics["best_loss"] == min(steps[2]["validation_loss"], steps[3]["validation_loss"])
    loss_of = SupervisedLoss(load_vlm(made["midtrain"].data / "model"))
    preparer = ConversationPreparer(load_processor(world / "tiny"), cutoff=160)
    rows = np.array(sorted(seen[metrics["rows"]]))
    total = supervised = 0.0
    for item in Selection(made["sources"], rows, preparer, max_images=2).items(range(len(rows))):
        if not isinstance(item, tuple):
            batch = collate([item], preparer.pad)
            with torch.no_grad():
                total += loss_of(batch.inputs, batch.labels).item()
            supervised += batch.supervised
    assert metrics["last_loss"] == pytest.approx(total / supervised, rel=1e-4)


def test_groups_are_held_out_whole_by_seed(held_run):
    index = Index(held_run[0]["sources"])
    rows = np.flatnonzero(index.is_pool())
    held = held_out(index, rows, 0.3, seed=1)
    groups = groups_of(index)
    assert not set(groups[held]) & set(groups[~held])
    share = len(np.unique(groups[held])) / len(np.unique(groups[rows]))
    assert share == pytest.approx(0.3, abs=0.03)
    assert np.array_equal(held, held_out(index, rows, 0.3, seed=1))
    assert not np.array_equal(held, held_out(index, rows, 0.3, seed=2))
    with pytest.raises(EmtError, match="share one picture"):
        held_out(index, rows[:1], 0.3, seed=1)


def test_weights_of_a_step_are_kept_and_training_goes_on(
    world: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
):
    plain = midtrain(world, ws)["midtrain"]
    seen = []
    save = Session.save_model

    def recorded(self: Session, folder: Path, processor: Any) -> None:
        seen.append({name: value.clone() for name, value in self.vlm.state_dict().items()})
        save(self, folder, processor)

    monkeypatch.setattr(Session, "save_model", recorded)
    kept = midtrain(world, ws, "midtrain.keep_steps=[2]")["midtrain"]
    assert kept.key != plain.key
    weights, result, without = (
        load_vlm(folder).state_dict()
        for folder in (kept.data / "steps" / "2", kept.data / "model", plain.data / "model")
    )
    assert all(torch.equal(weights[name], seen[0][name]) for name in weights)
    assert any(not torch.equal(weights[name], result[name]) for name in weights)
    assert all(torch.equal(result[name], without[name]) for name in result)
    assert load_vlm(kept.data / "steps" / "2").config == load_vlm(kept.data / "model").config


def test_a_step_that_is_not_kept_is_named():
    config = MidtrainConfig(keep_steps=(50, 100))
    config.check_kept(FinetuneConfig(midtrain_step=50), stage="finetune")
    assert FinetuneConfig(midtrain_step=50).weights_folder == "steps/50"
    with pytest.raises(EmtError, match=r"no weights of step 60 \(kept: 50, 100\)"):
        config.check_kept(FinetuneConfig(midtrain_step=60), stage="finetune")
    with pytest.raises(ValueError, match="give one"):
        FinetuneConfig(midtrain_step=50, interpolate=0.5)
    with pytest.raises(ValueError, match="keep_steps names steps"):
        MidtrainConfig(steps=10, keep_steps=(11,))
