"""Memory of mid-training, counted without weights: against what autograd keeps of the real model,
and at true size where nothing of it would fit."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import save_internvl, save_qwen3_vl

from emt_core.cli.__main__ import main
from emt_core.models.vlm.load import load_config, load_processor, load_vlm
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.run import host
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.forecast import forecast_of
from emt_core.training.midtrain.memory import Expected
from emt_core.training.midtrain.memory_probe import largest_item, probe_memory
from emt_core.training.midtrain.micro_batch import TrainingItem
from emt_core.training.parts import choose_trained

GIB = 2**30
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def internvl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_internvl(tmp_path_factory.mktemp("internvl") / "model")


def item_of(folder: Path, cutoff: int = 256) -> TrainingItem:
    preparer = ConversationPreparer(load_processor(folder), cutoff=cutoff)
    return largest_item(preparer, max_images=4, max_image_pixels=768**2)


def counted(folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Expected:
    settings = options.pop("settings", {})
    config = MidtrainConfig(model=str(folder), **settings)
    return forecast_of(load_config(folder), config, item_of(folder), dtype, **options).expected


@pytest.mark.parametrize(
    ("save", "settings", "dtype"),
    [
        (save_internvl, {}, torch.float32),
        (save_qwen3_vl, {"update": "lora"}, torch.bfloat16),
    ],
)
def test_counting_agrees_with_what_autograd_keeps_of_the_real_model(
    tmp_path: Path, save, settings, dtype
):
    folder = save(tmp_path / "model")
    vlm = load_vlm(folder)
    choose_trained(vlm, MidtrainConfig(**settings), seed=0, stage="midtrain")
    autocast = partial(torch.autocast, "cpu", dtype, enabled=dtype == torch.bfloat16)
    real = probe_memory(vlm, item_of(folder), CPU, autocast)
    found = counted(folder, dtype, settings=settings)
    assert found.fixed - found.casts == real.fixed - real.casts
    assert (found.logits, found.logits_most) == (real.logits, real.logits_most)
    assert found.casts == pytest.approx(real.casts, rel=0.05)
    assert found.per_sample == pytest.approx(real.per_sample, rel=0.05)


def test_recomputing_keeps_inputs_of_blocks_and_one_block(internvl: Path):
    whole, less = counted(internvl), counted(internvl, recompute=True)
    # two blocks of each half: their inputs are [4 images, 65, 32] and [256, 48] of four bytes
    inputs = 2 * 4 * (4 * 65 * 32 + 256 * 48)
    assert inputs < less.per_sample < 0.6 * whole.per_sample


def test_what_sharding_l2_sp_and_eager_attention_take(internvl: Path):
    whole, half = counted(internvl), counted(internvl, devices=2, sharded=True)
    assert half.weights == whole.weights // 2 and half.states == whole.states // 2
    assert whole.weights // 2 < half.casts < 2 * whole.weights  # of two blocks nearly all is there
    both = counted(internvl, devices=2)
    assert both.gradients == 2 * whole.gradients  # DDP's buckets
    eager = counted(internvl, settings={"attn_implementation": "eager"})
    assert eager.per_sample > whole.per_sample + 2 * 4 * 256 * 256 * 4  # two layers of four heads
    pulled = counted(internvl, settings={"l2_sp": 0.1})
    assert pulled.weights == 2 * whole.weights


@pytest.fixture
def true_size(tmp_path: Path) -> Path:
    """InternVL3.5-1B's shape (1.06 billion parameters) as a config: there are no weights."""
    folder = save_internvl(tmp_path / "InternVL3_5-1B-HF", pixels=448)
    (folder / "model.safetensors").unlink()
    processor = json.loads((folder / "processor_config.json").read_text())
    processor["image_seq_length"] = 256  # patches of 14, two by two of them one token
    (folder / "processor_config.json").write_text(json.dumps(processor))
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] |= {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "patch_size": [14, 14],
    }
    config["text_config"] |= {
        "vocab_size": 151_936,
        "hidden_size": 1024,
        "num_hidden_layers": 28,
        "layer_types": ["full_attention"] * 28,
        "max_window_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 3072,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    return folder


def leave(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """A machine with so much memory free."""
    found = SimpleNamespace(total=64 * GIB, available=free)
    monkeypatch.setattr(host.psutil, "virtual_memory", lambda: found)
    monkeypatch.setattr(host, "OWN_GROUPS", Path("/none"))


@pytest.mark.slow
def test_a_model_that_cannot_fit_is_told_before_it_is_loaded(
    true_size: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    leave(monkeypatch, 3 * GIB)
    assert main(["check-model", str(true_size), "--device", "cpu"]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("memory failed expected 15.81 GiB for weights, gradients and AdamW")
    assert "3.00 GiB free on cpu: not even one sample a pass fits" in said
    assert "1,060.8 M parameters: vision 303.9 M" in said and "label mask ok" in said
    assert said.count("left out its weights in float32 take 3.95 GiB, 3.00 GiB are free") == 4

    leave(monkeypatch, 20 * GIB)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: r\nbackbone: {true_size}\nselect: {{strategy: random, k: 4}}\n"
        "sources: [{name: web, role: pool, format: llava, path: web.json}]\n"
        "midtrain: {batch: 2}\n"
    )
    assert main(["midtrain", str(recipe), "--dry-run", "--set", "runtime.device=cpu"]) == 2
    said = capsys.readouterr()
    assert "weights 3.95 GiB, gradients 3.95 GiB, moments 7.90 GiB" in said.out
    assert "measured" not in said.out
    assert "20.00 GiB are free on cpu: it is not tried (not even one would fit)" in said.err
