"""The shipped tiny VLM is a plain InternVL that any loader takes; its pre-training packs questions
without a leak."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT

from demo import packing, tiny_vlm, tokenizer
from demo.drawing import fonts_available
from demo.gaze import HEAD, answer_gaze, gaze_loss
from demo.grounding_loss import LABELS, GroundingLoss, cell_targets
from demo.probe import Answerer, correct
from demo.questions import KINDS, held_out

MODEL = ROOT / "assets" / "tiny_vlm"
drawn = pytest.mark.skipif(
    not fonts_available(), reason="drawing needs the Debian fonts of docs/tiny_vlm.md"
)


@pytest.fixture(scope="module")
def tok():
    return tokenizer.load(MODEL)


@pytest.fixture(scope="module")
def answerer() -> Answerer:
    return Answerer(str(MODEL))


def test_the_folder_is_small_and_holds_no_code() -> None:
    files = sorted(p.name for p in MODEL.iterdir())
    assert sum(p.stat().st_size for p in MODEL.iterdir()) <= 9_000_000
    assert "model.safetensors" in files and not [
        f for f in files if f.endswith((".py", ".bin", ".pt", ".pkl"))
    ]
    config = json.loads((MODEL / "config.json").read_text())
    assert (
        config["architectures"] == ["InternVLForConditionalGeneration"] and "auto_map" not in config
    )


def test_it_loads_as_a_plain_internvl_and_answers(answerer: Answerer) -> None:
    from transformers import InternVLForConditionalGeneration, InternVLProcessor

    assert type(answerer.model) is InternVLForConditionalGeneration
    assert type(answerer.processor) is InternVLProcessor
    assert 3_000_000 < answerer.model.num_parameters() < 4_500_000
    chat = [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": Image.new("RGB", (320, 200), (200, 30, 30))},
                {"type": "text", "text": "Describe the image."},
            ],
        }
    ]
    inputs = answerer.processor.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert inputs["pixel_values"].shape == (
        1,
        3,
        112,
        112,
    )  # one tile, though nobody said crop_to_patches=False
    assert (
        int((inputs["input_ids"] == answerer.model.config.image_token_id).sum())
        == tiny_vlm.IMAGE_TOKENS
    )
    out = answerer.model.generate(**inputs, max_new_tokens=24, do_sample=False)
    text = answerer.processor.decode(
        out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    assert len(text.split()) >= 3


def test_an_answer_does_not_depend_on_its_batch(answerer: Answerer) -> None:
    if not fonts_available():
        pytest.skip("drawing needs the Debian fonts of docs/tiny_vlm.md")
    samples = held_out("spatial", 6, seed=1)
    assert answerer(samples, "image", batch=6) == answerer(samples, "image", batch=1)


@pytest.mark.parametrize(
    "text",
    [
        "Point to the hammer.",
        "(0.42, 0.77)",
        "QVFV 36 and X",
        "What action should the robotic arm take to open the drawer?",
        "naïve café: 3 × 4 € — 机器人 🤖",
        "<|im_start|>user\n<img><IMG_CONTEXT></img>\nhello<|im_end|>\n",
        "  two blanks\n\n\tand a tab ",
    ],
)
def test_tokenizer_round_trip(tok, text: str) -> None:
    assert tok.decode(tok(text).input_ids) == text


def test_text_to_read_and_coordinates_are_spelled(tok) -> None:
    assert (
        len(tok("ZQXJ").input_ids) == 4
        and len(tok("TOTAL").input_ids) == 5
        and len(tok("1234").input_ids) == 4
    )
    assert tok.tokenize("(0.42") == ["(", "0.", "4", "2"]
    assert len(tok.tokenize(" gripper")) == 1  # robot words have tokens of their own


def test_packing_equals_separate_sequences(tok) -> None:
    """Loss by loss: three packed questions against the processor's own single sequences through the
    whole model."""
    from demo.packing import Batch
    from demo.pretrain import answer_losses

    model = tiny_vlm.fresh_model(tok, seed=1).eval()
    processor = tiny_vlm.processor(tok)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(2, 112, 112, 3), dtype=np.uint8)
    asked = [
        [("Point to the cup.", "(0.42, 0.77)"), ("What is written here?", "PORT 7")],
        [
            ("Describe the image.", "A photo of a dog and a key."),
            ("Count the dogs.", "1"),
            ("Is it red?", "no"),
        ],
    ]
    packer = packing.Packer(tok)
    packed = packer.pack(
        [[packer.segment(q, a) for q, a in group] for group in asked], [False, False]
    )
    batch = Batch(
        images=images, packed=packed, cells=[], kinds=[], gaze=np.empty(0, dtype=np.int64)
    )
    with torch.no_grad():
        packed_pass = answer_losses(model, batch, packer.image_start)
    losses, weights = packed_pass.losses, packed_pass.weights
    single, lengths = [], []
    for image, group in zip(images, asked, strict=True):
        for question, answer in group:
            chat = [
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
            ]
            prompt = processor.apply_chat_template(chat, add_generation_prompt=True)
            inputs = processor(
                text=prompt + answer + "<|im_end|>",
                images=Image.fromarray(image),
                return_tensors="pt",
            )
            start = processor(text=prompt, images=Image.fromarray(image), return_tensors="pt")[
                "input_ids"
            ].shape[1]
            with torch.no_grad():
                logits = model(**inputs).logits[0]
            ids = inputs["input_ids"][0]
            single.append(
                torch.nn.functional.cross_entropy(
                    logits[start - 1 : -1], ids[start:], reduction="none"
                )
            )
            lengths.append(len(ids) - start)
    torch.testing.assert_close(losses, torch.cat(single), atol=2e-4, rtol=1e-3)
    expected = torch.cat([torch.full((n,), n**-0.5) for n in lengths])
    torch.testing.assert_close(weights, expected)


def test_a_chained_conversation_equals_the_chat_template(tok) -> None:
    packer = packing.Packer(tok)
    turns = [("Count the dogs.", "1"), ("Where is it?", "(0.10, 0.20)")]
    packed = packer.pack([[packer.segment(q, a) for q, a in turns]], [True])
    chat = []
    for i, (q, a) in enumerate(turns):
        content = [{"type": "text", "text": q}]
        chat.append(
            {"role": "user", "content": [{"type": "image"}, *content] if i == 0 else content}
        )
        chat.append({"role": "assistant", "content": [{"type": "text", "text": a}]})
    text = tiny_vlm.processor(tok)(
        text=tok.apply_chat_template(chat, tokenize=False),
        images=Image.new("RGB", (112, 112)),
        return_tensors="pt",
    )["input_ids"][0]
    length = packed.input_ids.shape[1]
    assert packed.input_ids[0].tolist() == text[:length].tolist()
    assert packed.positions[0].tolist() == list(range(length))
    assert np.array_equal(packed.allowed[0], np.tri(length, dtype=bool))
    answered = [int(t) for t in packed.targets[0] if t >= 0]
    assert tok.decode(answered) == "1<|im_end|>(0.10, 0.20)<|im_end|>"


def test_grounding_targets_name_the_cell_of_the_mark() -> None:
    pairs = cell_targets([["red star", 0.99, 0.0], ["hammer", 0.5, 0.5], ["Q", 0.0, 1.0]])
    assert [(int(c), LABELS[n]) for c, n in pairs] == [
        (6, "red"),
        (6, "star"),
        (24, "hammer"),
        (42, "Q"),
    ]
    loss = GroundingLoss(8)
    with torch.no_grad():
        loss.head.weight.zero_()
        loss.place.weight.zero_()
        loss.place.bias.zero_()
    value = loss(torch.zeros(1, 49, 8), [pairs])
    empty = 49 * len(LABELS) - 4
    want = (4 * np.log1p(np.exp(6.0)) + empty * np.log1p(np.exp(-6.0))) / 4 + 2 * np.log(7)
    assert float(value.detach()) == pytest.approx(want, rel=1e-4)


def test_gaze_follows_the_target_the_letters_and_the_coordinates(tok) -> None:
    marks = [["hammer", 0.5, 0.5], ["P", 0.1, 0.1], ["O", 0.3, 0.1], ["7", 0.1, 0.9]]
    length = len(tok("(0.50, 0.50)<|im_end|>").input_ids)
    assert answer_gaze("point", "Point to it.", "(0.50, 0.50)", marks, length).tolist() == [24] * (
        length - 1
    ) + [-1]
    assert answer_gaze("spatial", "What is at (0.10, 0.95)?", "star", marks, 2).tolist() == [42, -1]
    assert answer_gaze("spatial", "Is it red?", "no", marks, 2).tolist() == [-1, -1]
    read = "PO 7"
    assert len(tok(read).input_ids) == 4
    assert answer_gaze("read", "Read it.", read, marks, 5).tolist() == [0, 2, -1, 42, -1]


def test_gaze_loss_is_the_attention_paid_by_the_head_in_charge() -> None:
    from types import SimpleNamespace

    attention = torch.full((3, 4, 49), 1e-9)
    attention[0, HEAD["point"], 24], attention[2, HEAD["read"], 5] = 0.5, 0.25
    batch = SimpleNamespace(gaze=np.array([24, -1, 5]), kinds=["point", "count", "read"])
    assert float(gaze_loss(attention, batch)) == pytest.approx(
        -(np.log(0.5001) + np.log(0.2501)) / 2, rel=1e-4
    )


@drawn
def test_training_goes_on_where_a_killed_run_stopped(tmp_path: Path) -> None:
    """Two real processes, a few steps of each phase; the second call resumes the first one's
    state."""
    from demo import pretrain, pretrain_data

    small = pretrain_data.SHARD_IMAGES
    pretrain_data.SHARD_IMAGES = 24
    try:
        for n in range(2):
            pretrain_data.draw_shard(tmp_path / "data", n, seed=3)
    finally:
        pretrain_data.SHARD_IMAGES = small
    tokenizer.load(MODEL).save_pretrained(tmp_path / "tokenizer")
    out = tmp_path / "model"
    for minutes in (0.05, 0.10):
        pretrain.run(
            pretrain.Settings(
                out=str(out),
                work=str(tmp_path),
                minutes=minutes,
                shards=2,
                batch=4,
                checkpoint_seconds=1.0,
            )
        )
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] > state["joint_steps"] > 0 and state["elapsed"] >= 6.0
    assert Answerer(str(out)).model.num_parameters() == Answerer(str(MODEL)).model.num_parameters()


@drawn
@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_passes_and_a_wrong_answer_fails(kind: str) -> None:
    samples = held_out(kind, 24, seed=2)
    assert len({s.image_key for s in samples}) == 24
    assert all(correct(s, s.answer) for s in samples)
    assert not any(correct(s, "nothing of the kind") for s in samples)


def test_the_committed_probe_meets_the_bar() -> None:
    record = json.loads((MODEL / "probe.json").read_text())
    assert {r["kind"] for r in record["results"]} == set(KINDS)
    for row in record["results"]:
        assert row["n"] >= 300 and row["learned"], row
        assert row["image"]["low"] > max(row["text_only"]["high"], row["shuffled"]["high"]), row


@drawn
@pytest.mark.parametrize("kind", ["colour", "point"])
def test_the_shipped_weights_still_see(answerer: Answerer, kind: str) -> None:
    samples = held_out(kind, 40, seed=123)
    right = sum(map(correct, samples, answerer(samples, "image")))
    swapped = sum(map(correct, samples, answerer(samples, "shuffled")))
    assert right >= swapped + 8, (right, swapped)
