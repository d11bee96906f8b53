"""How much memory one sample of a pass takes, measured on the model itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from emt_core.data.sample import Sample, Turn
from emt_core.models.halving import is_out_of_memory, release_memory
from emt_core.models.prepared import Refused
from emt_core.models.vlm.batch import move
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.memory import Expected, expected_memory
from emt_core.training.midtrain.micro_batch import TrainingItem, collate

if TYPE_CHECKING:
    import torch

PROBE_CHUNK = 64
"""Tokens whose logits exist at a time while kept tensors are counted: they are counted apart."""

SIDES = (1.0, 0.7, 0.5, 0.35)
"""Sides tried, as shares of the largest image's: many smaller images can take more than few."""


def probe_memory(
    vlm: Any,
    item: TrainingItem,
    device: torch.device,
    autocast: Callable[..., Any],
    *,
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw",
    devices: int = 1,
) -> Expected:
    """Memory that training is expected to take, per sample as large as `item` (`largest_item`).

    Counted: weights, gradients, moments, logits. Measured: what autograd keeps for a pass, and for
    one more sample. Kept tensors are counted as autograd saves them (each storage once), so the
    figure does not depend on what an allocator holds back; it leaves out workspace that lives
    within one operation. Where not even two samples fit, everything is put down to the one that
    did.
    """
    import torch

    from emt_core.training.midtrain.loss import SupervisedLoss, with_logits

    counts = [p.numel() for p in vlm.parameters()]
    trained = [p.numel() for p in vlm.parameters() if p.requires_grad]
    weights = {p.untyped_storage().data_ptr() for p in vlm.parameters()}
    sizes: list[int] = []
    for count in (1, 2):
        batch = collate([item] * count, 0)
        saved: dict[int, int] = {}

        def keep(tensor: torch.Tensor, saved: dict[int, int] = saved) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        try:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast():
                module = SupervisedLoss(vlm.train(), chunk=PROBE_CHUNK)
                loss = module(move(batch.inputs, device), batch.labels.to(device))
            del loss
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or not sizes:
                raise
            break
        finally:
            release_memory()
        sizes.append(sum(saved.values()))
    per_sample = max(sizes[1] - sizes[0], 1) if len(sizes) == 2 else sizes[0]
    vocabulary = vlm.get_output_embeddings().weight.shape[0]
    expected = replace(
        expected_memory(sum(counts), sum(trained), optimizer, devices=devices),
        casts=max(sizes[0] - per_sample, 0),
        per_sample=per_sample,
    )
    return with_logits(expected, item.labels, vocabulary)


def largest_item(
    preparer: ConversationPreparer, *, max_images: int, max_image_pixels: int
) -> TrainingItem:
    """The sample that takes most memory within the settings.

    It has as many and as large images as the cutoff lets in, and an answer that fills the rest;
    text alone where no image fits. Raises Refused where a question leaves no room for a word.
    """
    candidates: list[TrainingItem] = []
    for share in SIDES:
        side = max(int(share * max_image_pixels**0.5), 32)
        one = _filled(preparer, 1, side)
        if one is None:
            continue
        candidates.append(one)
        tokens = int(np.isin(one.tokens["input_ids"], preparer.image_ids).sum())
        many = max(min(max_images, preparer.cutoff // max(tokens, 1)), 1)
        # the question's own words take room as well, so the number that fits may be one lower
        for count in {many, many - 1} - {0, 1}:
            item = _filled(preparer, count, side)
            if item is not None:
                candidates.append(item)
    if not candidates:
        return preparer.prepare(*_conversation(preparer, 0, 32))
    return max(candidates, key=lambda item: (_vision_bytes(item), item.length))


def _vision_bytes(item: TrainingItem) -> int:
    return sum(array.nbytes for array in item.vision.values())


def _filled(preparer: ConversationPreparer, count: int, side: int) -> TrainingItem | None:
    try:
        return preparer.prepare(*_conversation(preparer, count, side))
    except Refused:
        return None


def _conversation(preparer: ConversationPreparer, count: int, side: int) -> tuple[Any, list[Any]]:
    """A sample with `count` square images and an answer longer than the cutoff."""
    from PIL import Image

    words = "red cup left of the green box " * (preparer.cutoff // 4)
    turns = (
        Turn(role="user", text="<image>" * count + "\nWhat?"),
        Turn(role="assistant", text=words),
    )
    images = [Image.new("RGB", (side, side), (120, 120, 120))] * count
    return Sample(source="check", row=0, role="pool", turns=turns), images
