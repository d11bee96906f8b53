"""midtrain.update: which weights are trained, LoRA merged into a plain VLM, what a recipe may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import save_internvl, save_qwen3_vl

from emt_core.errors import EmtError
from emt_core.models.vlm.load import load_processor, load_vlm
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.training.devices import close_accelerator, open_accelerator
from emt_core.training.midtrain.session import Session
from emt_core.training.parts import choose_trained, last_blocks

SAVED = {"internvl": save_internvl, "qwen3_vl": save_qwen3_vl}
PROJECTOR = {
    "internvl": ("model.multi_modal_projector.",),
    "qwen3_vl": ("model.visual.merger.", "model.visual.deepstack_merger_list."),
}
LAST_VISION = {
    "internvl": "model.vision_tower.encoder.layer.1.",
    "qwen3_vl": "model.visual.blocks.2.",
}
LANGUAGE = "model.language_model.layers."


@pytest.fixture(scope="module", params=SAVED)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SAVED[request.param](tmp_path_factory.mktemp("models") / request.param)


def trained_names(folder: Path, **settings: Any) -> set[str]:
    vlm = load_vlm(folder)
    choose_trained(vlm, MidtrainConfig(**settings), seed=0, stage="midtrain")
    return {name for name, parameter in vlm.named_parameters() if parameter.requires_grad}


def test_lora_trains_additions_the_last_vision_blocks_and_the_projector(folder: Path):
    trained = trained_names(folder, update="lora")
    added = {name for name in trained if ".lora_" in name}
    blocks = load_vlm(folder).config.text_config.num_hidden_layers
    assert len(added) == 2 * 7 * blocks and all(name.startswith(LANGUAGE) for name in added)
    wholly = (LAST_VISION[folder.name], *PROJECTOR[folder.name])  # a quarter of 2 or 3 blocks is 1
    everything = {name for name, _ in load_vlm(folder).named_parameters()}
    assert trained - added == {name for name in everything if name.startswith(wholly)}
    alone = trained_names(folder, update="lora", vision_share=0, freeze=["projector"])
    assert alone == added


def test_partial_trains_the_last_blocks_that_are_named(folder: Path):
    everything = {name for name, _ in load_vlm(folder).named_parameters()}
    blocks = load_vlm(folder).config.text_config.num_hidden_layers
    last = tuple(f"{LANGUAGE}{number}." for number in range(blocks - (blocks + 1) // 2, blocks))
    language = trained_names(folder, update="partial", language_share=0.5, freeze=["projector"])
    assert language == {name for name in everything if name.startswith(last)}
    both = trained_names(folder, update="partial", language_share=0.5, vision_share=0.1)
    wholly = (*last, LAST_VISION[folder.name], *PROJECTOR[folder.name])
    assert both == {name for name in everything if name.startswith(wholly)}


@pytest.mark.parametrize(
    ("share", "count", "taken"),
    [(0.25, 24, 6), (0.1, 30, 3), (0.3, 10, 3), (0.25, 2, 1), (0.0, 24, 0), (1.0, 24, 24)],
)
def test_a_share_of_blocks_is_rounded_up(share: float, count: int, taken: int):
    class Vlm:
        config = type("Config", (), {"model_type": "qwen3_vl"})

        def named_parameters(self) -> list[tuple[str, None]]:
            return [(f"model.visual.blocks.{n}.norm1.weight", None) for n in range(count)]

    expected = [f"model.visual.blocks.{n}." for n in range(count - taken, count)]
    assert last_blocks(Vlm(), "vision", share) == expected


def test_the_seed_decides_the_first_additions(folder: Path):
    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(seed + 50)  # what the process drew before does not matter
        vlm = load_vlm(folder)
        choose_trained(vlm, MidtrainConfig(update="lora"), seed=seed, stage="midtrain")
        return next(p for name, p in vlm.named_parameters() if "lora_A" in name).detach()

    torch.manual_seed(1)
    again = first(3)
    assert torch.equal(first(3), again) and not torch.equal(first(4), again)


def session_of(folder: Path, out: Path, **settings: Any) -> Session:
    config = MidtrainConfig(model=str(folder), batch=1, **settings)
    vlm = load_vlm(folder)
    return Session(vlm, config, open_accelerator("cpu", "float32"), out, origin_dtype=None)


def logits(vlm: Any) -> torch.Tensor:
    ids = torch.arange(20)[None]
    with torch.no_grad():
        return vlm.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


UPDATES: dict[str, dict[str, Any]] = {
    "lora": {"update": "lora", "lora_rank": 2, "lora_alpha": 3},
    "partial": {"update": "partial", "language_share": 0.5, "vision_share": 0.5},
}


@pytest.mark.parametrize("update", UPDATES)
def test_the_result_is_a_plain_vlm_that_says_the_same(folder: Path, update: str, tmp_path: Path):
    """Saved after a large change of what is trained; what is not trained keeps its bits."""
    try:
        session = session_of(folder, tmp_path, **UPDATES[update])
        torch.manual_seed(0)
        for parameter in session.module.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
        still = {n for n, p in session.vlm.named_parameters() if not p.requires_grad}
        expected = logits(session.vlm)
        session.save_model(tmp_path / "model", load_processor(folder))
    finally:
        close_accelerator()
    before = load_file(folder / "model.safetensors")
    after = load_file(tmp_path / "model" / "model.safetensors")
    assert after.keys() == before.keys()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and not changed & still
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert config["architectures"] == [type(load_vlm(folder)).__name__]
    merged = load_vlm(tmp_path / "model")
    torch.testing.assert_close(logits(merged), expected, rtol=1e-3, atol=1e-3)
    assert (logits(load_vlm(folder)) - expected).abs().max() > 0.1


def test_lora_has_the_paper_s_settings_where_none_are_given():
    config = MidtrainConfig(update="lora")
    assert (config.lora_rank, config.lora_alpha, config.vision_share) == (16, 32, 0.25)
    assert MidtrainConfig(update="lora", lora_rank=64).lora_alpha == 128
    assert MidtrainConfig(update="lora", vision_share=0).trained_parts == {"language", "projector"}
    assert MidtrainConfig.model_validate(config.model_dump()) == config
    # an explicit default is the same work
    named = MidtrainConfig(update="lora", lora_rank=16, lora_alpha=32, vision_share=0.25)
    assert named.model_dump() == config.model_dump()


def test_settings_of_updates_keep_the_keys_of_recipes_without_them():
    plain = MidtrainConfig().model_dump()
    assert plain["lora_rank"] == 0
    assert not plain.keys() & {"update", "lora_alpha", "vision_share", "language_share"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora_rank": 8}, "update: lora"),
        ({"vision_share": 0.25}, "`update: lora` or `partial`"),
        ({"update": "lora", "language_share": 0.5}, "no language_share"),
        ({"update": "partial"}, "above 0"),
        ({"update": "partial", "vision_share": 0.0}, "above 0"),
        ({"update": "lora", "freeze": ["language"]}, "can name the projector"),
        ({"update": "partial", "vision_share": 0.5, "rate_factors": {"language": 2}}, "language"),
        ({"freeze": ["vision", "projector", "language"]}, "nothing is left to train"),
    ],
)
def test_updates_that_make_no_sense_are_refused(settings: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        MidtrainConfig(**settings)


def test_a_model_whose_parts_are_not_known_is_trained_in_full_alone(folder: Path):
    vlm = load_vlm(folder)
    vlm.config.model_type = "unheard_of"
    choose_trained(vlm, MidtrainConfig(), seed=0, stage="midtrain")
    with pytest.raises(EmtError, match="unheard_of") as caught:
        choose_trained(vlm, MidtrainConfig(update="lora"), seed=0, stage="midtrain")
    assert caught.value.where == "midtrain.update" and "internvl" in caught.value.remedy
