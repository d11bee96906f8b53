"""The measure `gradient`: against gradients taken the slow way, and what it must find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from measure_inputs import measure_inputs
from small_world import small_world
from tiny_models import save_internvl

from emt_core.data.images.decode import open_images
from emt_core.models.vlm.batch import move
from emt_core.models.vlm.load import load_processor
from emt_core.proximity.base import Inputs, OnModel, measure_of
from emt_core.proximity.measures import gradient
from emt_core.proximity.measures.gradient import Gradients, Sketch
from emt_core.proximity.perplexity.action_text import Actions, bin_edges, spoken, with_answer
from emt_core.proximity.vlm import load_for_loss
from emt_core.recipe.base import Runtime
from emt_core.recipe.proximity import GradientMeasure, measure_config
from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.training.low_rank import LAYERS, add_low_rank
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.micro_batch import TrainingItem, collate
from emt_core.workspace.artifact import Workspace

ROWS = (0, 1, 7, 9)
"""Plain, far, three images, twenty turns."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    base = tmp_path_factory.mktemp("gradient")
    small_world(base / "world", pool_rows=24, episodes=4)
    save_internvl(base / "vlm")
    plan = make_plan(load_recipe(base / "world" / "recipe.yaml"))
    made = run_plan(plan, Workspace.open(base / "ws", create=True), until="embed", quiet=True)
    return measure_inputs(made, base)


def config_of(**more: Any) -> GradientMeasure:
    settings = {"model": "vlm", "rank": 2, "dims": 4096, "robot_rows": 6, "action_bins": 16}
    return cast(GradientMeasure, measure_config(kind="gradient", **settings | more))


@pytest.fixture(scope="module")
def fitted(inputs) -> Path:
    out = inputs.base / "fitted"
    out.mkdir()
    facts = gradient.fit(config_of(), inputs, out)
    assert facts["robot_rows"] == 6 and 0 < facts["alignment"] <= 1
    return out


def all_scores(config: GradientMeasure, inputs: Inputs, fitted: Path, start: int = 0) -> np.ndarray:
    scores_of = cast(OnModel, measure_of("gradient")).scorer(config, inputs, fitted)
    return np.concatenate([part for _, part in scores_of(start, inputs.index.rows)])


def preparer_of(inputs: Inputs) -> ConversationPreparer:
    return ConversationPreparer(load_processor(str(inputs.base / "vlm")), cutoff=1024)


def item_of(inputs: Inputs, row: int, answer: str = "") -> TrainingItem:
    (sample,) = inputs.index.samples([row])
    source = next(s for s in inputs.index.sources if s.name == sample.source)
    images: Any = open_images(sample.images, source.root, 10**8)
    if answer:
        sample = with_answer(sample, answer)
    return preparer_of(inputs).prepare(sample, images)


def robot_answers(inputs: Inputs, config: GradientMeasure) -> list[dict[int, str]]:
    """Of each robot set: index row of a frame that makes the target -> its action as text."""
    _, rows = gradient.training_rows(config, inputs.index, inputs.features)
    actions = Actions(inputs.index)
    answers = []
    chosen = gradient.bounded(rows, config.robot_rows, config.seed)
    for source, all_rows, own in zip(inputs.index.of_role("robot"), rows, chosen, strict=True):
        edges = bin_edges(actions, source, all_rows, config.action_bins)
        samples = inputs.index.samples(own)
        assert all(sample.source == source.name for sample in samples)
        texts = [spoken(actions.of(sample), edges) for sample in samples]
        answers.append(dict(zip(own.tolist(), texts, strict=True)))
    return answers


def slow_gradient(inputs: Inputs, item: TrainingItem, downs: list[torch.Tensor]) -> np.ndarray:
    """dL/dW A^T of every layer, with W itself trained: float64 [parameters]."""
    vlm: Any = load_for_loss(str(inputs.base / "vlm"), None, "cpu")
    weights = [
        layer.weight
        for name, layer in vlm.named_modules()
        if isinstance(layer, torch.nn.Linear) and gradient.re.fullmatch(LAYERS, name)
    ]
    batch = collate([item], preparer_of(inputs).pad)
    labels = batch.labels.clone()
    out = vlm(**move(batch.inputs, torch.device("cpu")))
    loss = torch.nn.functional.cross_entropy(
        out.logits[0, :-1].float(), labels[0, 1:], ignore_index=-100
    )
    grads = torch.autograd.grad(loss, weights)
    parts = [(g.double() @ a.double().T).flatten() for g, a in zip(grads, downs, strict=True)]
    return torch.cat(parts).numpy()


def downs_of(gradients: Gradients) -> list[torch.Tensor]:
    """The matrices A of its layers, read off the hooks."""
    return [
        hook.args[0]
        for layer in gradients.vlm.modules()
        for hook in layer._forward_hooks.values()
        if getattr(hook, "func", None) is gradient._add_low_rank
    ]


def test_scores_are_cosines_of_gradients_taken_the_slow_way(inputs, fitted):
    config = config_of()
    gradients = Gradients(config, inputs)
    downs = downs_of(gradients)

    def projected(item: TrainingItem) -> np.ndarray:
        full = slow_gradient(inputs, item, downs)
        assert gradients.full(item, 0).numpy() == pytest.approx(
            full, abs=1e-4 * float(np.abs(full).max())
        )
        padded = np.zeros(len(gradients.sketch.order))
        padded[: len(full)] = full
        mixed = padded[gradients.sketch.order.numpy()] * gradients.sketch.signs.numpy()
        sums = mixed.reshape(-1, config.dims).sum(axis=0)
        return sums / np.linalg.norm(sums)

    targets = []
    for answers in robot_answers(inputs, config):
        units = [projected(item_of(inputs, row, answer)) for row, answer in answers.items()]
        targets.append(sum(units) / np.linalg.norm(sum(units)))
    assert len(targets) == 2
    found = all_scores(config, inputs, fitted)
    assert np.isfinite(found).all()
    for row in ROWS:
        own = projected(item_of(inputs, row))
        assert found[row] == pytest.approx(max(target @ own for target in targets), abs=1e-4)


def test_the_gradient_is_that_of_pefts_low_rank_layers(inputs):
    """The hook adds what peft's LoRA adds: with the same A, B has the same gradient."""
    pytest.importorskip("peft")
    gradients = Gradients(config_of(), inputs)
    downs = iter(downs_of(gradients))
    vlm: Any = load_for_loss(str(inputs.base / "vlm"), None, "cpu")
    add_low_rank(vlm, 2, 2.0, seed=0, where="test")  # alpha / rank = 1
    ups = []
    for name, weight in vlm.named_parameters():
        if "lora_A" in name:
            weight.data.copy_(next(downs))
        elif "lora_B" in name:
            ups.append(weight)
    item = item_of(inputs, 0)
    batch = collate([item], preparer_of(inputs).pad)
    logits = vlm(**batch.inputs).logits[0, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits, batch.labels[0, 1:], ignore_index=-100)
    grads = torch.autograd.grad(loss, ups)
    expected = torch.cat([part.flatten() for part in grads]).numpy()
    found = gradients.full(item, 0).numpy()
    assert found == pytest.approx(expected, abs=1e-4 * float(np.abs(expected).max()))


def test_frames_of_the_target_are_nearest(inputs, fitted):
    found = all_scores(config_of(), inputs, fitted)
    robots = found[[row for rows in robot_answers(inputs, config_of()) for row in rows]]
    pool = np.concatenate([found[s.start : s.stop] for s in inputs.index.of_role("pool")])
    assert robots.min() > np.median(pool)
    assert robots.mean() > pool.max()


def test_neither_batch_nor_start_changes_a_bit(inputs, fitted):
    whole = all_scores(config_of(), inputs, fitted)
    other = replace(inputs, runtime=Runtime(workers=0, batch=5))
    assert all_scores(config_of(), other, fitted).tobytes() == whole.tobytes()
    assert all_scores(config_of(), inputs, fitted, start=11).tobytes() == whole[11:].tobytes()


def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(inputs, fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(gradient, "SAVE_SECONDS", 0.0)
    done = 0
    unit = Gradients.unit

    def three_times(self, item, pad):
        nonlocal done
        done += 1
        if done > 3:
            raise KeyboardInterrupt
        return unit(self, item, pad)

    monkeypatch.setattr(Gradients, "unit", three_times)
    with pytest.raises(KeyboardInterrupt):
        gradient.fit(config_of(), inputs, tmp_path)
    assert (tmp_path / "checkpoints" / "step-00000003").is_dir()
    done = -100
    gradient.fit(config_of(), inputs, tmp_path)
    assert done == -100 + 3  # the other half of six
    with np.load(tmp_path / "target.npz") as a, np.load(fitted / "target.npz") as b:
        assert a["target"].tobytes() == b["target"].tobytes()


def test_the_projection_keeps_cosines():
    stream = torch.Generator().manual_seed(1)
    sketch = Sketch(50_000, 8192, seed=3)
    common = torch.randn(50_000, generator=stream)
    for share in (0.0, 0.5, 1.0):
        a = common + torch.randn(50_000, generator=stream)
        b = share * common + torch.randn(50_000, generator=stream)
        full = torch.cosine_similarity(a, b, dim=0)
        kept = torch.cosine_similarity(sketch.of(a), sketch.of(b), dim=0)
        assert float(kept) == pytest.approx(float(full), abs=4 / 8192**0.5)
