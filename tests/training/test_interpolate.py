"""Weights between origin and result: against loaded models, in several files, after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import save_internvl, save_qwen3_vl

from emt_core.errors import EmtError
from emt_core.models.vlm.load import load_processor, load_vlm
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.recipe.recipe import build_recipe
from emt_core.recipe.retain import RetainConfig
from emt_core.run.plan import make_plan
from emt_core.stages import finetune, retain
from emt_core.training.midtrain import interpolate as module
from emt_core.training.midtrain.interpolate import interpolate

ALPHAS = (0.25, 0.5)


@pytest.fixture(params=[save_internvl, save_qwen3_vl], ids=["internvl", "qwen3_vl"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """`origin/` in one file, and `out/model`, which another training made of it, in several."""
    request.param(tmp_path / "origin")
    vlm = load_vlm(tmp_path / "origin", dtype=torch.bfloat16)
    vlm.save_pretrained(tmp_path / "origin")
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in vlm.named_parameters():
            if "embed_tokens" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    vlm.save_pretrained(tmp_path / "out/model", max_shard_size="100KB")
    load_processor(tmp_path / "origin").save_pretrained(tmp_path / "out/model")
    assert len(list((tmp_path / "out/model").glob("*.safetensors"))) > 1
    return tmp_path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: value
        for file in folder.glob("*.safetensors")
        for name, value in load_file(file).items()
    }


def test_they_are_those_of_models_added_up_in_memory(world: Path):
    interpolate(str(world / "origin"), None, world / "out", ALPHAS)
    before, after = weights(world / "origin"), weights(world / "out/model")
    for alpha in ALPHAS:
        folder = world / f"out/interpolated/{alpha:g}"
        made = weights(folder)
        assert made.keys() == after.keys()
        for name, value in made.items():
            expected = (1 - alpha) * before[name].double() + alpha * after[name].double()
            assert value.dtype == torch.bfloat16
            torch.testing.assert_close(value.double(), expected, rtol=2**-8, atol=1e-6)
            if "embed_tokens" in name:
                assert torch.equal(value, before[name])  # what was not trained keeps its bits
        vlm, processor = load_vlm(folder), load_processor(folder)
        assert processor.chat_template
        ids = torch.arange(12)[None]
        assert torch.isfinite(vlm(input_ids=ids, attention_mask=torch.ones_like(ids)).logits).all()
    assert {path.name for path in (world / "out").iterdir()} == {"model", "interpolated"}
    assert {p.name for p in (world / "out/interpolated").iterdir()} == {"0.25", "0.5"}


def test_what_a_kill_left_is_made_again_and_what_is_whole_is_not(
    world: Path, monkeypatch: pytest.MonkeyPatch
):
    mix = module._mix

    def stops(start: Path, result: Path, made: Any) -> None:
        if result.name.startswith("model-00002"):
            raise KeyboardInterrupt
        mix(start, result, made)

    interpolate(str(world / "origin"), None, world / "out", (0.25,))
    whole = world / "out/interpolated/0.25/config.json"
    before = whole.stat()
    monkeypatch.setattr(module, "_mix", stops)
    with pytest.raises(KeyboardInterrupt):
        interpolate(str(world / "origin"), None, world / "out", ALPHAS)
    assert not (world / "out/interpolated/0.5").exists()
    monkeypatch.undo()
    interpolate(str(world / "origin"), None, world / "out", ALPHAS)
    assert weights(world / "out/interpolated/0.5").keys() == weights(world / "out/model").keys()
    assert whole.stat() == before


def test_another_model_is_refused(world: Path, tmp_path_factory: pytest.TempPathFactory):
    qwen = "qwen" in load_vlm(world / "origin").config.model_type
    other = (save_internvl if qwen else save_qwen3_vl)(tmp_path_factory.mktemp("other") / "vlm")
    with pytest.raises(EmtError, match="not the same weights"):
        interpolate(str(other), None, world / "out", ALPHAS)


RECIPE: dict[str, Any] = {
    "name": "arms",
    "backbone": "missing",
    "sources": [{"name": "w", "role": "pool", "format": "llava", "path": "w.json"}],
    "embed": {"encoder": "fake"},
    "category": {},
    "select": {"strategy": "all"},
    "midtrain": {"interpolate": [0.5]},
    "demos": {},
    "finetune": {},
    "retain": {"files": {"q": {"format": "own", "path": "q.parquet"}}},
    "arms": {"whole": {}, "half": {"finetune.interpolate": 0.5, "retain.interpolate": 0.5}},
}


def test_an_arm_names_the_weights_it_starts_from(tmp_path: Path):
    """One mid-training for both arms; weights that are not kept are told before anything runs."""
    raw = RECIPE | {"base": str(tmp_path)}
    plan = make_plan(build_recipe(raw), whole=False)
    assert [len(plan.of_stage(stage)) for stage in ("midtrain", "finetune", "retain")] == [1, 2, 2]
    wrong = {"bad": {"finetune.interpolate": 0.75, "retain.interpolate": 0.75}}
    plan = make_plan(build_recipe(raw | {"arms": wrong}), whole=False)
    for stage in (finetune, retain):
        (instance,) = plan.of_stage(stage.__name__.rpartition(".")[2])
        with pytest.raises(EmtError, match=r"keeps no weights at 0.75 of the way \(kept: 0.5\)"):
            stage.check(instance, tmp_path)


def test_settings_of_interpolation_keep_old_keys():
    files = {"q": {"format": "own", "path": "q.parquet"}}
    configs = (MidtrainConfig(), FinetuneConfig(), RetainConfig.model_validate({"files": files}))
    assert not any("interpolate" in config.model_dump() for config in configs)
    with pytest.raises(ValueError, match="start: midtrain"):
        FinetuneConfig(start="backbone", interpolate=0.5)
    with pytest.raises(ValueError):
        MidtrainConfig(interpolate=(0.5, 1.0))
