"""midtrain.packing: several samples in one row, each with the loss and gradients of a row alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from midtrain_samples import IMAGES, MULTI_IMAGE, MULTI_TURN, SYSTEM, sample
from small_world import small_world
from tiny_models import save_internvl, save_qwen3_vl

from emt_core.errors import EmtError
from emt_core.models.vlm.load import load_processor, load_vlm
from emt_core.models.vlm.packed import SEGMENTS, check_packing
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.training.midtrain.batches import Feed, Selection, with_unlearned
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.loss import SupervisedLoss
from emt_core.training.midtrain.micro_batch import Plan, TrainingItem, collate
from emt_core.training.midtrain.packing import collate_packed, rows_of
from emt_core.training.steps_log import iterate_steps
from emt_core.workspace.artifact import Workspace

SAVED = {"internvl": save_internvl, "qwen3_vl": save_qwen3_vl}
SHAPES = ((MULTI_TURN, 1), (MULTI_IMAGE, 3), (SYSTEM, 0), (MULTI_IMAGE, 3), (MULTI_TURN, 1))


@pytest.fixture(scope="module", params=SAVED)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SAVED[request.param](tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def preparer(folder: Path) -> ConversationPreparer:
    return ConversationPreparer(load_processor(folder), cutoff=2048)


@pytest.fixture(scope="module")
def items(preparer: ConversationPreparer) -> list[TrainingItem]:
    return [preparer.prepare(sample(turns), IMAGES[:count]) for turns, count in SHAPES]


def cutoff_for_two_rows(items: list[TrainingItem]) -> int:
    total = sum(item.length for item in items)
    return max(max(item.length for item in items), total * 6 // 10)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_each_sample_has_the_loss_and_all_have_the_gradients_of_rows_alone(
    folder: Path, preparer: ConversationPreparer, items: list[TrainingItem], attention: str
):
    vlm: Any = load_vlm(folder).train()
    vlm.set_attn_implementation(attention)
    loss_of = SupervisedLoss(vlm)
    packed = collate_packed(items, preparer.pad, cutoff_for_two_rows(items))
    assert len(packed.labels) == 2 and packed.ids == [item.id for item in items]
    together = loss_of(packed.inputs, packed.labels)
    together.backward()
    gradients = {n: p.grad.clone() for n, p in vlm.named_parameters() if p.grad is not None}
    vlm.zero_grad()
    alone = [collate([item], preparer.pad) for item in items]
    losses = [loss_of(one.inputs, one.labels) for one in alone]
    torch.stack(losses).sum().backward()
    assert packed.supervised == sum(one.supervised for one in alone)
    assert packed.tokens == sum(one.tokens for one in alone)
    for name, p in vlm.named_parameters():
        assert (p.grad is None) == (name not in gradients), name
        if p.grad is not None:
            torch.testing.assert_close(gradients[name], p.grad, rtol=1e-3, atol=2e-5)
    # one sample's loss at a time: labels of the others taken away
    segments = packed.inputs[SEGMENTS]
    order = [
        place
        for row in rows_of([i.length for i in items], cutoff_for_two_rows(items))
        for place in row
    ]
    for number, place in enumerate(order, start=1):
        labels = packed.labels.masked_fill(segments != number, -100)
        with torch.no_grad():
            own = loss_of(packed.inputs, labels)
        assert own.item() == pytest.approx(losses[place].item(), rel=1e-5)


def test_a_neighbor_in_the_row_changes_nothing(
    folder: Path, preparer: ConversationPreparer, items: list[TrainingItem]
):
    """What would fail if a token saw another sample's: other words before and behind it."""
    loss_of = SupervisedLoss(load_vlm(folder))
    changed = preparer.prepare(sample([("user", "Wholly other words?"), ("assistant", "Yes.")]), [])
    found = []
    for neighbor in (items[2], changed):
        packed = collate_packed([items[0], neighbor], preparer.pad, 2048)
        assert len(packed.labels) == 1
        labels = packed.labels.masked_fill(packed.inputs[SEGMENTS] != 1, -100)
        with torch.no_grad():
            found.append(loss_of(packed.inputs, labels).item())
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_an_unlearned_sample_is_packed_too(folder: Path, preparer: ConversationPreparer):
    batch = with_unlearned([], preparer, image=True, packing=True)
    loss = SupervisedLoss(load_vlm(folder))(batch.inputs, batch.labels)
    loss.backward()
    assert loss.item() == 0 and batch.ids == [] and batch.tokens == 0


def test_rows_are_filled_longest_first():
    assert rows_of([3, 9, 4, 6, 1], cutoff=10) == [[1, 4], [3, 2], [0]]
    assert rows_of([5, 5, 5], cutoff=10) == [[0, 1], [2]]
    assert rows_of([12, 2], cutoff=10) == [[0], [1]]


class _Text:
    _attn_implementation = "sdpa"
    layer_types: tuple[str, ...] = ("full_attention",)


class _Model:
    def __init__(self, kind: str, **text: Any) -> None:
        self.config = self
        self.model_type = kind
        self.text = _Text()
        vars(self.text).update(text)

    def get_text_config(self) -> _Text:
        return self.text


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (_Model("llava"), "a llava model"),
        (_Model("internvl", _attn_implementation="flash_attention_2"), "flash_attention_2"),
        (_Model("internvl", layer_types=("sliding_attention",)), "sliding_attention"),
    ],
)
def test_what_cannot_be_kept_apart_is_refused_by_name(model: Any, words: str):
    with pytest.raises(EmtError, match=words):
        check_packing(model)


RECIPE = """
name: train
backbone: tiny
runtime: {workers: 0, commit_rows: 64, batch: 3}
sources: [{name: web, role: pool, format: llava, path: web/web.json, image_root: images}]
embed: {encoder: fake}
category: {}
select: {strategy: random, k: 30, include_text_only: true}
midtrain: {steps: 3, batch: 12, cutoff: 160, learning_rate: 0.001, max_images: 2}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_world(tmp_path_factory.mktemp("world"), episodes=2, pool_rows=40)
    save_internvl(folder / "tiny")
    (folder / "train.yaml").write_text(RECIPE)
    return folder


def test_a_packed_training_is_that_of_rows_alone(world: Path):
    from safetensors.torch import load_file

    ws = Workspace.open(world / "ws", create=True)
    logs, weights = [], []
    for packing in ("false", "true"):
        recipe = load_recipe(world / "train.yaml", [f"midtrain.packing={packing}"])
        made = run_plan(make_plan(recipe), ws, until="midtrain", quiet=True)["midtrain"]
        logs.append(list(iterate_steps(made.data / "steps.jsonl")))
        weights.append(load_file(made.data / "model" / "model.safetensors"))
    for plain, packed in zip(*logs, strict=True):
        same = ("samples", "tokens", "supervised")
        assert [plain[name] for name in same] == [packed[name] for name in same]
        assert packed["loss"] == pytest.approx(plain["loss"], rel=1e-4)
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4)


def test_ranks_share_a_packed_batch_out(world: Path):
    """Every sample once, as many passes on each rank, and fewer than without packing."""
    ws = Workspace.open(world / "ws", create=True)
    recipe = load_recipe(world / "train.yaml")
    made = run_plan(make_plan(recipe), ws, until="select", quiet=True)
    preparer = ConversationPreparer(load_processor(world / "tiny"), cutoff=160)
    sources = made["sources"]

    def feed(packing: bool) -> Feed:
        rows = np.arange(40)
        selection = Selection(sources, rows, preparer, max_images=2, packing=packing)
        return Feed(selection, seed=0, workers=0)

    for world_size in (1, 2, 3):
        plans = [Plan(batch=36, micro=2, world=world_size, rank=r) for r in range(world_size)]
        shares = [feed(True).places(4, plan) for plan in plans]
        assert len({len(share) for share in shares}) == 1
        seen = np.concatenate([chunk for share in shares for chunk in share])
        assert sorted(seen.tolist()) == sorted(feed(False).stream.step(4, 36).tolist())
        assert len(shares[0]) < plans[0].passes
    batches = next(feed(True).steps(4, 5, plans[0]))
    assert len(batches) == len(shares[0])
    assert max(batch.labels.shape[1] for batch in batches) <= 160


def test_the_setting_changes_no_key_while_it_is_off():
    assert "packing" in MidtrainConfig.ADDED and not MidtrainConfig().packing
