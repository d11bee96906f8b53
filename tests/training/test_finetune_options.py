"""Fine-tuning as practitioners run it: LoRA, frozen parts, recomputing, EMA, attention kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetune_runs import STEPS, killed_at, recipe_of, run, weights_of, write_world
from safetensors.torch import load_file

from emt_core.errors import EmtError
from emt_core.models.vlm.load import load_vlm
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.recipe.recipe import build_recipe
from emt_core.run.plan import make_plan
from emt_core.training.policy import finetuning
from emt_core.training.policy.policy import Policy
from emt_core.training.steps_log import iterate_steps
from emt_core.workspace.artifact import Artifact

ADDED = {"update", "lora_rank", "lora_alpha", "vision_share", "language_share", "freeze"}
ADDED |= {"optimizer", "attn_implementation", "ema"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world: Path) -> Artifact:
    return run(recipe_of(world), world / "whole")


@pytest.fixture(scope="module")
def averaged(world: Path) -> Artifact:
    return run(recipe_of(world, ema=0.5), world / "averaged")


def log_of(artifact: Artifact) -> list[dict[str, Any]]:
    return list(iterate_steps(artifact.data / "steps.jsonl"))


def test_options_keep_the_keys_of_recipes_without_them(world: Path, whole: Artifact):
    assert not FinetuneConfig().model_dump().keys() & ADDED
    raw = recipe_of(world, update="full", freeze=[], optimizer="adamw", ema=None)
    assert make_plan(build_recipe(raw)).get("finetune").key == whole.key
    assert make_plan(build_recipe(recipe_of(world, ema=0.9))).get("finetune").key != whole.key


def test_lora_ends_in_a_plain_policy_that_acts_as_the_model_in_training(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Killed by an error at step 5 and resumed; the additions are merged into plain weights."""
    settings = {"update": "lora", "lora_rank": 2, "vision_share": 0.5, "learning_rate": 0.02}
    trained: list[finetuning.Finetuner] = []
    keep = finetuning.Finetuner._keep_policy

    def kept(self: finetuning.Finetuner, step: int) -> None:
        trained.append(self)
        keep(self, step)

    monkeypatch.setattr(finetuning.Finetuner, "_keep_policy", kept)
    raw = recipe_of(world, **settings)
    with killed_at(monkeypatch, 5):
        run(raw, tmp_path / "w")
    made = run(raw, tmp_path / "w")
    origin = load_file(world / "vlm" / "model.safetensors")
    plain = load_file(made.data / f"policies/step-{STEPS}/model.safetensors")
    assert plain.keys() == origin.keys()
    moved = {name for name, value in plain.items() if not torch.equal(value, origin[name])}
    assert any(name.endswith("q_proj.weight") for name in moved)
    last = "vision_tower.encoder.layer.1."
    assert all("_proj" in n or last in n or "multi_modal_projector" in n for n in moved)
    assert any(last in name for name in moved)
    policy = Policy.load(made.data / f"policies/step-{STEPS}", device="cpu")
    pictures = torch.randint(0, 256, (2, 3, 56, 56), dtype=torch.uint8)
    inputs = policy.prompts.batch(pictures, ["push the red block", "open the drawer"])
    with torch.no_grad():
        expected = trained[-1].vla.eval()(inputs)
        torch.testing.assert_close(policy.vla(inputs), expected, rtol=1e-4, atol=1e-4)
    actions = policy.act(np.zeros((1, 48, 48, 3), np.uint8), ["push the red block"])
    assert np.isfinite(actions).all()


def test_frozen_parts_stay_and_the_head_learns(world: Path, tmp_path: Path):
    everything = ["vision", "projector", "language"]
    made = run(recipe_of(world, freeze=everything, keep=[]), tmp_path / "w")
    origin = load_file(world / "vlm" / "model.safetensors")
    found = weights_of(made)
    assert all(torch.equal(found[name], value) for name, value in origin.items())
    assert found["query"].abs().max() > 0
    assert log_of(made)[-1]["grad_norm"] > 0


def test_recomputing_activations_changes_nothing(
    world: Path, whole: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    blocks: list[bool] = []
    step = finetuning.Finetuner._step

    def watched(self: finetuning.Finetuner, *arguments: Any) -> Any:
        blocks.append(self.vla.vlm.is_gradient_checkpointing)
        return step(self, *arguments)

    monkeypatch.setattr(finetuning.Finetuner, "_step", watched)
    raw = recipe_of(world)
    raw["runtime"]["gradient_checkpointing"] = True
    made = run(raw, tmp_path / "w")
    assert made.key == whole.key and blocks == [True] * STEPS
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(made)[name]), name


def test_attention_kernels_agree_and_a_missing_one_is_told(
    world: Path, whole: Artifact, tmp_path: Path
):
    eager = run(recipe_of(world, attn_implementation="eager", keep=[]), tmp_path / "w")
    assert eager.key != whole.key
    first, again = log_of(whole)[0], log_of(eager)[0]
    assert again["loss"] == pytest.approx(first["loss"], rel=1e-4)
    assert again["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-3)
    vlm = load_vlm(world / "vlm", attention="eager")
    assert vlm.config._attn_implementation == "eager"
    assert load_vlm(world / "vlm").config._attn_implementation == "sdpa"
    with pytest.raises(EmtError, match="flash_attn, which is not installed"):
        load_vlm(world / "vlm", attention="flash_attention_2")
    with pytest.raises(ValueError, match="needs bfloat16"):
        FinetuneConfig(attn_implementation="flash_attention_2", precision="float32")


def test_the_kept_policies_hold_the_average_of_the_weights(
    world: Path, whole: Artifact, averaged: Artifact, tmp_path: Path
):
    """By hand, from the weights after every step of the same training without an average."""
    steps = list(range(1, STEPS + 1))
    every = run(recipe_of(world, keep=steps), tmp_path / "every")
    assert [r["loss"] for r in log_of(averaged)] == [r["loss"] for r in log_of(whole)]
    # the rate of step 1 is 0 (warm-up): its weights are those that training began with
    expected = weights_of(every, 1)
    for step in steps:
        decay = min(0.5, (1 + step) / (10 + step))
        now = weights_of(every, step)
        expected = {n: decay * value + (1 - decay) * now[n] for n, value in expected.items()}
        if step in (3, STEPS):
            for name, value in weights_of(averaged, step).items():
                torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    assert not torch.equal(weights_of(averaged)["query"], weights_of(whole)["query"])


def test_an_average_goes_on_to_the_same_bits(
    world: Path, averaged: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    raw = recipe_of(world, ema=0.5)
    with killed_at(monkeypatch, 5):
        run(raw, tmp_path / "w")
    resumed = run(raw, tmp_path / "w")
    assert [record["step"] for record in log_of(resumed)] == list(range(1, STEPS + 1))
    for step in (3, STEPS):
        for name, value in weights_of(averaged, step).items():
            assert torch.equal(value, weights_of(resumed, step)[name]), (step, name)
