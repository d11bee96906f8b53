"""`emt check-model` on both classes, on the tiny VLM, and on what is no VLM for us."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import save_internvl, save_qwen3_vl

from emt_core.cli.__main__ import main
from emt_core.training.midtrain.memory import available_memory, expected_memory, held_memory
from emt_core.training.midtrain.model_check import ModelCheck, repository_hint


@pytest.mark.parametrize("save", [save_internvl, save_qwen3_vl])
def test_every_check_passes_on_a_tiny_model_and_leaves_its_weights(tmp_path: Path, save):
    import torch

    check = ModelCheck(str(save(tmp_path / "model")), device="cpu", cutoff=256, batch=32)
    before = {name: value.clone() for name, value in check.vlm.state_dict().items()}
    found = {finding.question: finding for finding in check.findings()}
    assert {q: f.verdict for q, f in found.items() if f.verdict == "failed"} == {}, found
    assert (
        found["label mask"].verdict == "ok"
        and "'Red.<|im_end|>Light gray.<|im_end|>'" in found["label mask"].says
    )
    assert found["training step"].verdict == "ok"
    assert "runtime.batch 32" in found["memory"].says
    for name, value in check.vlm.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-4, atol=1e-5)


def test_a_model_of_256_tokens_an_image_passes_at_the_papers_cutoff(tmp_path: Path):
    """InternVL3.5 has as many: four images of it would not fit 1,024 tokens."""
    check = ModelCheck(str(save_internvl(tmp_path / "model", pixels=224)), device="cpu")
    found = {finding.question: finding for finding in check.findings()}
    assert found["image tokens"].says.startswith("258 tokens for one image")
    assert {q: f.says for q, f in found.items() if f.verdict == "failed"} == {}


def test_the_verb_prints_it_and_fails_with_the_check(tmp_path: Path, capsys):
    folder = save_internvl(tmp_path / "model")
    assert main(["check-model", str(folder), "--device", "cpu", "--cutoff", "128"]) == 0
    assert "InternVLForConditionalGeneration" in capsys.readouterr().out
    template = folder / "chat_template.jinja"
    template.write_text("{{ messages | length }}")  # says nothing of what was said
    assert main(["check-model", str(folder), "--device", "cpu", "--cutoff", "128"]) == 2
    assert "label mask" in capsys.readouterr().err


def test_the_repository_that_needs_remote_code_is_told_from_the_right_one(tmp_path: Path, capsys):
    assert "OpenGVLab/InternVL3_5-1B-HF" in repository_hint("OpenGVLab/InternVL3_5-1B")
    assert repository_hint("OpenGVLab/InternVL3_5-1B-HF") == ""
    assert repository_hint("Qwen/Qwen3-VL-2B-Instruct") == ""
    folder = tmp_path / "InternVL3_5-1B"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "internvl_chat", "auto_map": {"AutoModel": "m.C"}})
    )
    assert main(["check-model", str(folder)]) == 2
    assert "InternVL3_5-1B-HF" in capsys.readouterr().err


def test_expected_memory_counts_what_adamw_needs():
    whole = expected_memory(1_000, 1_000)
    assert whole.fixed == 16_000  # weights, gradients and two moments of 4 bytes each
    assert expected_memory(1_000, 100).fixed == 4_000 + 400 + 800
    assert expected_memory(1_000, 1_000, "adamw_8bit").fixed == 10_000
    from dataclasses import replace

    measured = replace(whole, per_sample=1_000)
    assert measured.largest_micro(available=30_000, batch=256) == 8
    assert measured.largest_micro(available=10**9, batch=6) == 6
    logits = replace(
        measured, logits=500, logits_most=1_200
    )  # beyond that many they are worked off in chunks
    assert [logits.total(n) - whole.fixed for n in (1, 2, 4)] == [1_500, 3_000, 5_200]
    assert measured.largest_micro(available=10_000, batch=256) == 0


def test_what_the_allocator_holds_back_is_free_and_the_weights_are_not(
    monkeypatch: pytest.MonkeyPatch,
):
    import torch

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (50, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert available_memory(torch.device("cuda")) == 60
    model = torch.nn.Linear(10, 10, bias=False)
    assert held_memory(model) == 400
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 10)).sum().backward()
    assert held_memory(model) == 800
    optimizer.step()
    assert 1_600 <= held_memory(model, optimizer) <= 1_608  # and a counter of steps


@pytest.mark.parametrize("save", [save_internvl, save_qwen3_vl])
def test_the_largest_sample_is_as_large_as_the_settings_allow(tmp_path: Path, save):
    from PIL import Image

    from emt_core.data.sample import Sample, Turn
    from emt_core.models.vlm.load import load_processor
    from emt_core.training.midtrain.conversations import ConversationPreparer
    from emt_core.training.midtrain.memory_probe import largest_item

    processor = load_processor(save(tmp_path / "model"))
    preparer = ConversationPreparer(processor, cutoff=160, max_image_pixels=4096)
    largest = largest_item(preparer, max_images=4, max_image_pixels=4096)
    assert largest.length == 160

    def pixels(count: int, side: int) -> int:
        turns = (
            Turn(role="user", text="<image>" * count + "\nWhat?"),
            Turn(role="assistant", text="x" * 200),
        )
        sample = Sample(source="web", row=0, role="pool", turns=turns)
        item = preparer.prepare(sample, [Image.new("RGB", (side, side))] * count)
        return sum(value.nbytes for value in item.vision.values())

    assert sum(value.nbytes for value in largest.vision.values()) == pixels(4, 64) > pixels(1, 448)
    # where four of them do not fit the cutoff, fewer or smaller ones are taken
    narrow = ConversationPreparer(processor, cutoff=80, max_image_pixels=4096)
    assert largest_item(narrow, max_images=4, max_image_pixels=4096).length == 80
