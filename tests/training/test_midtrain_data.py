"""What a step of mid-training sees: label mask, cutoff, batches, loss; on both classes of VLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from midtrain_samples import IMAGES, MULTI_IMAGE, MULTI_TURN, SYSTEM, sample
from tiny_models import save_internvl, save_qwen3_vl

from emt_core.models.prepared import Refused
from emt_core.models.vlm.load import load_processor, load_vlm
from emt_core.training.midtrain.batches import with_unlearned
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.micro_batch import IGNORE, Plan, collate
from emt_core.training.midtrain.order import ShuffledStream
from emt_core.training.parts import count_parameters, freeze, part_of


@pytest.fixture(scope="module", params=["internvl", "qwen3_vl"])
def folder(request, tmp_path_factory) -> Path:
    save = {"internvl": save_internvl, "qwen3_vl": save_qwen3_vl}[request.param]
    return save(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    return load_processor(folder)


def slow_labels(processor: Any, ids: np.ndarray) -> np.ndarray:
    """Reference: walk through the tokens and look for ChatML's marks, one turn at a time."""
    tokenizer = processor.tokenizer
    start = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    labels = np.full(len(ids), IGNORE)
    at = 0
    while at < len(ids):
        if ids[at : at + len(start)].tolist() == start:
            at += len(start)
            while at < len(ids):
                labels[at] = ids[at]
                at += 1
                if ids[at - 1] == end:
                    break
        else:
            at += 1
    return labels


@pytest.mark.parametrize(("turns", "images"), [(MULTI_TURN, 1), (MULTI_IMAGE, 3), (SYSTEM, 0)])
def test_labels_are_those_of_a_slow_reference(processor: Any, turns: Any, images: int):
    item = ConversationPreparer(processor, cutoff=1024).prepare(sample(turns), IMAGES[:images])
    ids = item.tokens["input_ids"]
    assert np.array_equal(item.labels, slow_labels(processor, ids))
    learned = processor.tokenizer.decode(item.labels[item.labels != IGNORE])
    answers = [text.strip() for role, text in turns if role == "assistant"]
    assert learned == "".join(f"{answer}<|im_end|>" for answer in answers)


def test_text_is_cut_at_the_end_and_images_never(processor: Any):
    whole = ConversationPreparer(processor, cutoff=1024).prepare(sample(MULTI_IMAGE), IMAGES)
    # room for all image tokens and for all but the last five others
    cut = ConversationPreparer(processor, cutoff=whole.length - 5).prepare(
        sample(MULTI_IMAGE), IMAGES
    )
    assert cut.length == whole.length - 5
    image = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    assert (cut.tokens["input_ids"] == image).sum() == (whole.tokens["input_ids"] == image).sum()
    assert np.array_equal(cut.tokens["input_ids"], whole.tokens["input_ids"][:-5])
    with pytest.raises(Refused) as refused:
        ConversationPreparer(processor, cutoff=whole.length - 20).prepare(
            sample(MULTI_IMAGE), IMAGES
        )
    assert refused.value.reason == "no_supervised_token"
    with pytest.raises(Refused) as refused:
        ConversationPreparer(processor, cutoff=5).prepare(sample(MULTI_IMAGE), IMAGES)
    assert refused.value.reason == "images_exceed_cutoff"


def test_loss_and_gradients_are_those_of_the_library_whatever_the_padding(
    folder: Path, processor: Any
):
    import torch

    from emt_core.training.midtrain.loss import SupervisedLoss

    preparer = ConversationPreparer(processor, cutoff=1024)
    items = [
        preparer.prepare(sample(turns), IMAGES[:n])
        for turns, n in ((MULTI_TURN, 1), (MULTI_IMAGE, 3), (SYSTEM, 0))
    ]
    vlm = load_vlm(folder).train()
    batch = collate(items, processor.tokenizer.pad_token_id)
    reference = vlm(**batch.inputs, labels=batch.labels).loss
    reference.backward()
    expected = {name: p.grad.clone() for name, p in vlm.named_parameters() if p.grad is not None}
    for chunk in (2048, 7):
        vlm.zero_grad()
        loss = SupervisedLoss(vlm, chunk=chunk)(batch.inputs, batch.labels) / batch.supervised
        loss.backward()
        assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
        for name, p in vlm.named_parameters():
            if p.grad is not None:
                torch.testing.assert_close(p.grad, expected[name], rtol=1e-3, atol=1e-5)
    alone = [collate([item], 0) for item in items]
    with torch.no_grad():
        total = sum(SupervisedLoss(vlm)(one.inputs, one.labels).item() for one in alone)
    assert total / batch.supervised == pytest.approx(reference.item(), rel=1e-4)


def test_an_empty_pass_teaches_nothing(folder: Path, processor: Any):
    from emt_core.training.midtrain.loss import SupervisedLoss

    # no sample fits
    batch = with_unlearned([], ConversationPreparer(processor, cutoff=16), image=False)
    vlm = load_vlm(folder)
    loss = SupervisedLoss(vlm)(batch.inputs, batch.labels)
    loss.backward()
    assert loss.item() == 0 and batch.ids == []
    assert all(p.grad is None or not p.grad.any() for p in vlm.parameters())


def test_a_blank_image_beside_text_changes_neither_loss_nor_gradients(folder: Path, processor: Any):
    """What FSDP needs: the vision encoder takes part in every pass."""
    import torch

    from emt_core.training.midtrain.loss import SupervisedLoss

    preparer = ConversationPreparer(processor, cutoff=256)
    items = [preparer.prepare(sample(SYSTEM), [])]
    plain = collate(items, preparer.pad)
    blank = with_unlearned(items, preparer, image=True)
    assert (blank.ids, blank.tokens, blank.supervised) == (
        plain.ids,
        plain.tokens,
        plain.supervised,
    )
    vlm = load_vlm(folder).train()
    losses, gradients = [], []
    for batch in (plain, blank):
        vlm.zero_grad(set_to_none=True)
        loss = SupervisedLoss(vlm)(batch.inputs, batch.labels)
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in vlm.named_parameters() if p.grad is not None})
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    kind, without, beside = vlm.config.model_type, *gradients
    assert not any(part_of(kind, name) == "vision" for name in without)
    assert any(part_of(kind, name) == "vision" for name in beside)
    for name, gradient in beside.items():
        expected = without.get(name)
        expected = torch.zeros_like(gradient) if expected is None else expected
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)
    assert with_unlearned([], preparer, image=True).ids == []


def test_an_odd_sample_is_refused_by_name(processor: Any, monkeypatch: pytest.MonkeyPatch):
    preparer = ConversationPreparer(processor, cutoff=256)

    def reason(turns: Any) -> str:
        with pytest.raises(Refused) as refused:
            preparer.prepare(sample(turns), [])
        return refused.value.reason

    assert reason((("user", " "), ("assistant", "Red."))) == "no_question"

    def strict(*_: Any, **__: Any) -> str:
        raise IndexError("list index out of range")

    monkeypatch.setattr(processor, "apply_chat_template", strict)
    assert reason(SYSTEM) == "template_refused"


def test_parts_are_told_apart_and_frozen(folder: Path):
    vlm = load_vlm(folder)
    counts = count_parameters(vlm)
    assert counts["vision"] and counts["projector"] and counts["language"]
    assert (
        counts["vision"] + counts["projector"] + counts["language"]
        == counts["all"]
        == counts["trained"]
    )
    freeze(vlm, ["vision", "projector"], stage="midtrain")
    kind = vlm.config.model_type
    assert all(
        p.requires_grad == (part_of(kind, name) == "language") for name, p in vlm.named_parameters()
    )


@pytest.mark.parametrize("n", [1, 2, 7, 64, 1000])
def test_every_sample_comes_once_an_epoch_in_a_seeded_order(n: int):
    stream = ShuffledStream(n, seed=3)
    seen = stream.at(np.arange(3 * n)).reshape(3, n)
    assert all(np.array_equal(np.sort(epoch), np.arange(n)) for epoch in seen)
    if n >= 64:
        assert not np.array_equal(seen[0], seen[1])
        assert not np.array_equal(seen[0], ShuffledStream(n, seed=4).at(np.arange(n)))
    assert np.array_equal(stream.step(3, 5), stream.at(np.arange(10, 15)))


def test_the_ranks_share_a_batch_out():
    places = np.arange(37)
    for world, micro in ((1, 8), (4, 3), (4, 64), (8, 2)):
        plans = [Plan(batch=37, micro=micro, world=world, rank=rank) for rank in range(world)]
        chunks = [chunk for plan in plans for chunk in plan.chunks(places)]
        assert sorted(np.concatenate(chunks).tolist()) == places.tolist()
        assert {len(plan.chunks(places)) for plan in plans} == {plans[0].passes}
        assert max(len(chunk) for chunk in chunks) <= micro
