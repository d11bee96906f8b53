"""What holds mid-training near its origin: general samples in each batch, and L2-SP's pull."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_world import write_pool
from tiny_models import save_internvl

from emt_core.errors import EmtError
from emt_core.models.vlm.load import load_vlm
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.recipe.recipe import build_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.selection.replay import left_out
from emt_core.stages.midtrain import general_rows
from emt_core.training.devices import close_accelerator, open_accelerator
from emt_core.training.midtrain.batches import Selection
from emt_core.training.midtrain.order import MixedStream, ShuffledStream
from emt_core.training.midtrain.session import Session
from emt_core.training.pull import Pull
from emt_core.training.steps_log import iterate_steps
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.table import Table

# ---- which samples a step has


@pytest.mark.parametrize("share", [0.1, 0.25, 1 / 3, 0.5])
def test_each_batch_has_its_share_and_each_kind_its_epochs(share: float):
    stream = MixedStream(40, 7, share, seed=3)
    steps = [stream.step(step, 10) for step in range(1, 31)]
    general = [int((places >= 40).sum()) for places in steps]
    assert {len(places) for places in steps} == {10}
    assert set(general) <= {math.floor(10 * share), math.ceil(10 * share)}
    assert sum(general) == pytest.approx(300 * share, abs=1)
    counts = Counter(np.concatenate(steps).tolist())
    own, others = ([counts[place] for place in part] for part in (range(40), range(40, 47)))
    assert max(own) - min(own) <= 1 and max(others) - min(others) <= 1
    # a resumed run asks for a step alone
    assert np.array_equal(MixedStream(40, 7, share, seed=3).step(17, 10), steps[16])
    assert not np.array_equal(MixedStream(40, 7, share, seed=4).step(17, 10), steps[16])


def test_without_replay_the_order_is_that_of_the_selection_alone():
    alone = ShuffledStream(40, 3)
    mixed = MixedStream(40, 7, 0.25, seed=3)
    own = np.concatenate([mixed.step(step, 8)[:6] for step in range(1, 6)])
    assert np.array_equal(own, alone.at(np.arange(30)))


REASONS = ["", "below_cut", "robot", "text_only", "source_cap", "no_score", "excluded"]


def test_general_samples_are_drawn_evenly_of_what_could_have_been_taken(tmp_path: Path):
    """In commits whose reasons differ, as a table of millions has them."""
    table = Table(tmp_path / "selection.lance")
    written: list[str] = []
    for part in range(4):
        reasons = [REASONS[(row * 7 + part) % (3 + part)] for row in range(500)]
        table.append(pa.table({"reason": reasons}))
        written += reasons
    allowed = {row for row, reason in enumerate(written) if reason in ("below_cut", "source_cap")}
    assert set(left_out(table, 10_000, 0).tolist()) == allowed
    drawn = left_out(table, 100, 0)
    assert len(set(drawn.tolist())) == 100 and set(drawn.tolist()) <= allowed
    assert set(left_out(table, 40, 0).tolist()) < set(drawn.tolist())
    assert set(left_out(table, 100, 1).tolist()) != set(drawn.tolist())
    each = Counter(row // 500 for seed in range(30) for row in left_out(table, 100, seed).tolist())
    held = Counter(row // 500 for row in allowed)
    for part, count in each.items():
        expected = 3000 * held[part] / len(allowed)
        assert abs(count - expected) < 5 * math.sqrt(expected)


# ---- the stage


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_pool(folder / "web", 24)
    save_internvl(folder / "tiny")
    return folder


def midtrain(world: Path, select: str = "half", **settings: Any) -> Artifact:
    raw = {
        "name": "ties",
        "base": str(world),
        "backbone": "tiny",
        "runtime": {"workers": 0, "batch": 8, "device": "cpu"},
        "sources": [
            {
                "name": "web",
                "role": "pool",
                "format": "llava",
                "path": "web/web.json",
                "image_root": "images",
            }
        ],
        "embed": {"encoder": "fake"},
        "category": {},
        "select.half": {"strategy": "random", "k": 10},
        "select.few": {"strategy": "random", "k": 2, "seed": 5},
        "select.all": {"strategy": "all"},
        "midtrain": {"steps": 3, "batch": 8, "cutoff": 160, "learning_rate": 1e-3}
        | settings
        | {"parents": {"select": select}},
    }
    workspace = Workspace.open(world / "ws", create=True)
    return run_plan(make_plan(build_recipe(raw)), workspace, quiet=True)["midtrain"]


@pytest.fixture
def trained_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Index rows that were trained on, in order."""
    rows: list[int] = []
    made = Selection.micro_batch

    def noted(self: Selection, places: Any) -> Any:
        rows.extend(self.rows[np.asarray(places, np.int64)].tolist())
        return made(self, places)

    monkeypatch.setattr(Selection, "micro_batch", noted)
    return rows


def test_a_quarter_of_what_is_trained_on_comes_from_outside(world: Path, trained_rows: list[int]):
    made = midtrain(world, replay=0.25)
    assert len(trained_rows) == 24
    workspace = Workspace.open(world / "ws")
    select = workspace.parents(made)["select"]
    ranks = Table(select.data / "selection.lance").column("rank")
    assert sum(int(ranks[row] < 0) for row in trained_rows) == 6
    assert made.metrics["replayed"] == {"share": 0.25, "rows": 6}
    samples, rejected = made.metrics["samples"], sum(made.metrics["rejects"].values())
    assert samples + rejected == 24 and made.metrics["epochs"] == pytest.approx(samples * 0.75 / 10)


def test_a_named_selection_can_be_what_is_replayed(world: Path, trained_rows: list[int]):
    made = midtrain(world, replay=0.5, replay_from="few")
    few = {p: a for p, a in Workspace.open(world / "ws").parents(made).items() if "few" in p}
    (artifact,) = few.values()
    ranks = Table(artifact.data / "selection.lance").column("rank")
    assert sum(int(ranks[row] >= 0) for row in trained_rows) >= 12
    assert made.metrics["replayed"]["rows"] == 2


def test_nothing_left_out_is_nothing_to_replay(world: Path):
    with pytest.raises(EmtError, match="leaves none out") as caught:
        midtrain(world, select="all", replay=0.25)
    assert "replay_from" in caught.value.remedy


def test_a_draw_is_no_larger_than_training_can_take(world: Path):
    made = midtrain(world, replay=0.25)
    parents = Workspace.open(world / "ws").parents(made)
    context: Any = SimpleNamespace(parents=parents)
    assert len(general_rows(context, MidtrainConfig(replay=0.1, steps=3, batch=10))) == 3
    left = 24 - 10 - 1  # of the pool, the selection, and one without an image
    assert len(general_rows(context, MidtrainConfig(replay=0.1, steps=5_000))) == left


# ---- the pull


def test_the_pull_is_the_gradient_of_the_penalty():
    """Against autograd of the loss with the penalty written out, and against numbers by hand."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    model[0].bias.requires_grad_(False)
    pull = Pull(model, 0.3)
    origin = {name: value.detach().clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    x = torch.randn(5, 3)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    written = 0.15 * sum((p - origin[name]).square().sum() for name, p in trained.items())
    expected = torch.autograd.grad(model(x).square().mean() + written, list(trained.values()))
    model(x).square().mean().backward()
    assert pull.add_gradient() == pytest.approx(written.item())
    for parameter, gradient in zip(trained.values(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert model[0].bias.grad is None

    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    alone = torch.nn.Module()
    alone.weight = weight
    pull = Pull(alone, 0.5)
    with torch.no_grad():
        weight += torch.tensor([0.5, -1.0])
    assert pull.add_gradient() == pytest.approx(0.25 * (0.25 + 1.0))  # no gradient of a loss
    assert weight.grad is not None and weight.grad.tolist() == [0.25, -0.5]


def moved(world: Path, made: Artifact) -> float:
    before = dict(load_vlm(world / "tiny").named_parameters())
    after = load_vlm(made.data / "model").named_parameters()
    return math.sqrt(sum((p - before[name]).square().sum().item() for name, p in after))


def test_a_pulled_run_stays_nearer_and_says_how_far_it_went(world: Path):
    free = midtrain(world, steps=8, warmup_steps=0)
    held = midtrain(world, steps=8, warmup_steps=0, l2_sp=10.0)
    assert moved(world, held) < 0.8 * moved(world, free)
    penalties = [record["penalty"] for record in iterate_steps(held.data / "steps.jsonl")]
    assert penalties[0] == 0 and all(value > 0 for value in penalties[1:])
    assert "penalty" not in next(iterate_steps(free.data / "steps.jsonl"))


def test_a_resumed_run_is_pulled_to_the_origin_not_to_its_checkpoint(world: Path, tmp_path: Path):
    config = MidtrainConfig(model=str(world / "tiny"), batch=1, l2_sp=1.0)

    def opened() -> Session:
        return Session(
            load_vlm(world / "tiny"), config, open_accelerator("cpu", "float32"), tmp_path
        )

    try:
        first = opened()
        with torch.no_grad():
            for parameter in first.module.parameters():
                parameter.add_(0.1)
        first._save(1, dict.fromkeys(("samples", "tokens", "supervised"), 0))
        again = opened()
    finally:
        close_accelerator()
    assert again.after == 1 and again.pull is not None
    count = sum(weight.numel() for weight, _ in again.pull.pairs)
    assert again.pull.add_gradient() == pytest.approx(0.5 * 0.01 * count, rel=1e-3)


def test_settings_that_hold_near_keep_old_keys_and_are_checked():
    plain = MidtrainConfig().model_dump()
    assert not plain.keys() & {"replay", "replay_from", "l2_sp"}
    assert MidtrainConfig(replay=0.1, replay_from="few").further() == ("select.few",)
    for settings in ({"replay_from": "few"}, {"replay": 1.0}, {"update": "lora", "l2_sp": 0.1}):
        with pytest.raises(ValueError):
            MidtrainConfig.model_validate(settings)
