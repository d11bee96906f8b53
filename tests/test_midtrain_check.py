"""`emt check-model` on both classes, on the tiny VLM, and on what is no VLM for us."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from encoders.tiny_models import save_internvl, save_qwen3_vl

from emt_core.cli import main
from emt_core.training.memory import expected_memory
from emt_core.training.model_check import ModelCheck, repository_hint


@pytest.mark.parametrize("save", [save_internvl, save_qwen3_vl])
def test_every_check_passes_on_a_tiny_model_and_leaves_its_weights(tmp_path: Path, save):
    import torch

    check = ModelCheck(str(save(tmp_path / "model")), device="cpu", cutoff=256, batch=32)
    before = {name: value.clone() for name, value in check.vlm.state_dict().items()}
    found = {finding.question: finding for finding in check.run()}
    assert {q: f.verdict for q, f in found.items() if f.verdict == "failed"} == {}, found
    assert found["label mask"].verdict == "ok" and "'Red.<|im_end|>Light grey.<|im_end|>'" in found["label mask"].says
    assert found["training step"].verdict == "ok"
    assert "runtime.batch_size 32" in found["memory"].says
    for name, value in check.vlm.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-4, atol=1e-5)


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
    (folder / "config.json").write_text(json.dumps({"model_type": "internvl_chat", "auto_map": {"AutoModel": "m.C"}}))
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
    assert measured.largest_micro(available=10**9, batch=6) == 4
    assert measured.largest_micro(available=10_000, batch=256) == 0
