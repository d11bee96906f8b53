"""Details of mid-training that no loss curve shows, by what a run leaves or which layers it runs.

Clipping, weight decay, warm-up, gradient checkpointing, precision of the result.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from decay import parameters_of, without_decay
from safetensors.torch import load_file
from small_world import write_pool
from tiny_models import save_internvl

from emt_core.models.vlm.load import load_processor, load_vlm
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.recipe.recipe import build_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.training.midtrain.batches import Selection
from emt_core.training.midtrain.loop import Trainer
from emt_core.training.parts import part_of
from emt_core.training.steps_log import iterate_steps
from emt_core.workspace.artifact import Artifact, Workspace

SOURCE = {
    "name": "web",
    "role": "pool",
    "format": "llava",
    "path": "web/web.json",
    "image_root": "images",
}
SAMPLES = 8


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_pool(folder / "web", 24)
    save_internvl(folder / "tiny")
    return folder


def midtrain(
    world: Path,
    *,
    backbone: str = "tiny",
    workspace: str = "ws",
    passed: int = SAMPLES,
    recompute: bool = False,
    **changes: Any,
) -> Artifact:
    """A run of a few steps whose batch is the whole selection, so that all steps see one batch.

    passed: samples a forward pass at the most.
    """
    settings = {"steps": 4, "batch": SAMPLES, "cutoff": 160, "learning_rate": 0.1}
    raw = {
        "name": "details",
        "base": str(world),
        "backbone": backbone,
        "runtime": {
            "workers": 0,
            "batch": passed,
            "device": "cpu",
            "gradient_checkpointing": recompute,
        },
        "sources": [SOURCE],
        "embed": {"encoder": "fake"},
        "category": {},
        "select": {"strategy": "random", "k": SAMPLES},
        "midtrain": settings | changes,
    }
    folder = Workspace.open(world / workspace, create=True)
    return run_plan(make_plan(build_recipe(raw)), folder, quiet=True)["midtrain"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def steps_of(artifact: Artifact) -> list[dict[str, Any]]:
    return list(iterate_steps(artifact.data / "steps.jsonl"))


@pytest.fixture(scope="module")
def clipped(world: Path) -> Artifact:
    """Gradients clipped to nothing: all that is left of a step is the decay of the weights."""
    return midtrain(world, clip_norm=1e-12, weight_decay=0.5, warmup_steps=2)


RATES = (0.0, 0.05, 0.1, 0.05)
"""Two steps of warm-up to 0.1, the first at 0, then half a cosine."""


def test_a_gradient_is_clipped_before_the_step(clipped: Artifact, world: Path):
    """AdamW's step is as large as the rate whatever the gradient, unless that is below epsilon.

    So the norm asked for is far below: a weight that moved by more than its decay saw no clipping.
    """
    assert all(record["grad_norm"] > 0.1 for record in steps_of(clipped))
    kept = math.prod(1 - 0.5 * rate for rate in RATES)
    before = parameters_of(world / "tiny")
    after = parameters_of(clipped.data / "model")
    matrices = before.keys() - without_decay(world / "tiny")
    assert len(matrices) > 10
    for name in matrices:
        torch.testing.assert_close(after[name], kept * before[name], rtol=0, atol=1e-3)


def test_norms_and_biases_do_not_decay(clipped: Artifact, world: Path):
    before = parameters_of(world / "tiny")
    after = parameters_of(clipped.data / "model")
    still = without_decay(world / "tiny")
    assert any("norm" in name for name in still) and any("bias" in name for name in still)
    for name in still:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-3)


def test_the_rate_warms_up_as_the_recipe_says(clipped: Artifact):
    rates = [record["learning_rate"] for record in steps_of(clipped)]
    assert rates == pytest.approx(RATES)


def test_every_step_begins_without_gradient(world: Path):
    """One batch and weights that stand still: each step has the gradient of the first one."""
    first, *others = steps_of(midtrain(world, learning_rate=1e-12, clip_norm=1e6, seed=1))
    assert first["grad_norm"] > 0.1
    for record in others:
        assert record["loss"] == pytest.approx(first["loss"], rel=1e-4)
        assert record["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-3)


def test_the_gradient_is_a_mean_over_tokens_however_a_batch_is_passed(world: Path):
    """Passes hold different numbers of tokens: a mean of their means would be another gradient."""
    still = {"learning_rate": 1e-12, "clip_norm": 1e6, "steps": 1, "seed": 2}
    whole, parts = (
        steps_of(midtrain(world, workspace=f"passed-{passed}", passed=passed, **still))
        for passed in (SAMPLES, 3)
    )
    assert parts[0]["loss"] == pytest.approx(whole[0]["loss"], rel=1e-4)
    assert parts[0]["grad_norm"] == pytest.approx(whole[0]["grad_norm"], rel=1e-3)


def test_the_seed_decides_which_samples_come_first(world: Path):
    still = {"learning_rate": 1e-12, "steps": 1, "batch": 3}
    losses = {steps_of(midtrain(world, seed=seed, **still))[0]["loss"] for seed in (10, 11)}
    assert len(losses) == 2


def test_parts_move_at_their_own_rates(world: Path):
    """The first step of AdamW moves every weight by its rate, so that the rates can be read off."""
    settings = {"steps": 1, "warmup_steps": 0, "learning_rate": 1e-4, "clip_norm": 1e6}
    factors = {"vision": 0.1, "projector": 2.0}
    made = midtrain(world, workspace="factors", rate_factors=factors, **settings)
    before = parameters_of(world / "tiny")
    largest: dict[str, float] = {}
    for name, value in parameters_of(made.data / "model").items():
        part = part_of("internvl", name)
        assert part is not None, name
        largest[part] = max(largest.get(part, 0), (value - before[name]).abs().max().item())
    expected = {"vision": 1e-5, "projector": 2e-4, "language": 1e-4}
    assert largest == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("pause", "low", "high"), [("data", 0.5, 1.0), ("step", 0.0, 0.5)])
def test_waiting_for_data_is_told_from_computing(
    pause: str, low: float, high: float, world: Path, monkeypatch: pytest.MonkeyPatch
):
    owner, name = (Selection, "micro_batch") if pause == "data" else (Trainer, "_accumulate")
    original = getattr(owner, name)

    def slow(*given: Any) -> Any:
        time.sleep(2.0)
        return original(*given)

    monkeypatch.setattr(owner, name, slow)
    made = midtrain(world, workspace=f"waits-{pause}", steps=2, batch=2, warmup_steps=0)
    assert all(low < record["data_wait"] < high for record in steps_of(made))


def test_settings_of_rates_keep_the_keys_of_recipes_without_them():
    plain = MidtrainConfig().model_dump()
    assert not plain.keys() & {"rate_factors", "min_rate", "betas"}
    assert MidtrainConfig(rate_factors={}, betas=(0.9, 0.999)).model_dump() == plain
    assert "min_rate" in MidtrainConfig(min_rate=1e-6).model_dump()


@pytest.mark.parametrize(
    "settings",
    [
        {"min_rate": 1e-3},
        {"rate_factors": {"vision": 0.1}, "freeze": ("vision",)},
        {"rate_factors": {"vision": 0.1}, "update": "lora", "vision_share": 0},
        {"rate_factors": {"vision": 0}},
        {"rate_factors": {"head": 2}},
        {"betas": (0.9, 1.0)},
    ],
)
def test_rates_that_make_no_sense_are_refused(settings: dict[str, Any]):
    with pytest.raises(ValueError):
        MidtrainConfig(**settings)


def layers_run(world: Path, *, recompute: bool) -> tuple[Counter[str], Artifact]:
    """How often each kind of module was run in two steps of mid-training, and what they left."""
    ran: Counter[str] = Counter()

    def count(module: torch.nn.Module, *_: Any) -> None:
        ran[type(module).__name__] += 1

    hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
    try:
        workspace = f"recompute-{recompute}"
        made = midtrain(world, workspace=workspace, recompute=recompute, steps=2, warmup_steps=0)
    finally:
        hook.remove()
    return ran, made


def test_gradient_checkpointing_runs_the_layers_again_and_changes_no_weight(world: Path):
    """Counted inside the layers: what surrounds a checkpointed layer is not run a second time."""
    plain, kept = layers_run(world, recompute=False)
    twice, worked_out = layers_run(world, recompute=True)
    assert plain["Qwen3Attention"] == 2 * 2  # layers x steps
    for module in ("Qwen3Attention", "InternVLVisionAttention"):
        assert twice[module] == 2 * plain[module] > 0, module
    assert worked_out.key == kept.key
    expected = weights(kept.data / "model")
    for name, value in weights(worked_out.data / "model").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_result_has_the_precision_of_its_origin(world: Path, dtype: torch.dtype):
    origin = world / f"origin-{dtype}"
    load_vlm(world / "tiny").to(dtype).save_pretrained(origin)
    load_processor(world / "tiny").save_pretrained(origin)
    before = weights(origin)
    assert {value.dtype for value in before.values()} == {dtype}
    made = midtrain(world, backbone=origin.name, steps=1, warmup_steps=0)
    after = weights(made.data / "model")
    assert {value.dtype for value in after.values()} == {dtype}
    assert after.keys() == before.keys()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    assert f'"{str(dtype).removeprefix("torch.")}"' in (made.data / "model/config.json").read_text()
