"""What one sample of a pass takes, and what a whole step takes, measured on the model itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from emt_core.models.encoders.batches import is_out_of_memory
from emt_core.training.midtrain.conversations import ConversationPreparer, Refused, TrainingItem
from emt_core.training.midtrain.memory import Expected, PeakMemory, expected_memory, release_memory

if TYPE_CHECKING:
    import torch

    from emt_core.training.midtrain.session import Session

LOGIT_BYTES = 16
"""Of one logit while its loss is worked out, at the most: bfloat16, float32, log-softmax, and two gradients."""

PROBE_CHUNK = 64
"""Tokens whose logits are there at a time while kept tensors are counted: logits are counted apart."""

SIDES = (1.0, 0.7, 0.5, 0.35)
"""Of the largest image, sides that are tried: many smaller images can hold more than few large ones."""

STEPS = 2
"""Steps whose memory is measured: the optimiser's moments come into being at the end of the first."""


def probe_memory(
    vlm: Any,
    item: TrainingItem,
    device: torch.device,
    autocast: Callable[..., Any],
    *,
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw",
    devices: int = 1,
) -> Expected:
    """Counted: weights, gradients, moments, logits. Measured: what autograd keeps for a pass, and for one more sample.

    item: as large as a sample can be (`largest_item`). Kept tensors are counted as autograd saves them (each storage
    once), so the figure does not depend on what an allocator holds back; it leaves out workspace that lives within
    one operation. Where not even two samples fit, everything is laid to the one that did.
    """
    import torch

    from emt_core.training.midtrain.batches import collate
    from emt_core.training.midtrain.loss import CHUNK, SupervisedLoss

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
                inputs = {name: value.to(device) for name, value in batch.inputs.items()}
                loss = SupervisedLoss(vlm.train(), chunk=PROBE_CHUNK)(
                    inputs, batch.labels.to(device)
                )
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
    return replace(
        expected_memory(sum(counts), sum(trained), optimizer, devices=devices),
        casts=max(sizes[0] - per_sample, 0),
        per_sample=per_sample,
        logits=int((item.labels[1:] >= 0).sum()) * vocabulary * LOGIT_BYTES,
        logits_most=CHUNK * vocabulary * LOGIT_BYTES,
    )


def largest_item(
    preparer: ConversationPreparer, *, max_images: int, max_image_pixels: int
) -> TrainingItem:
    """As much to keep as one sample can have: as many and as large images as the cutoff lets in, and an answer that
    fills the rest of it; text alone where no image fits. Raises Refused where a question leaves no room for a word."""
    found: list[TrainingItem] = []
    for share in SIDES:
        side = max(int(share * max_image_pixels**0.5), 32)
        one = _filled(preparer, 1, side)
        if one is None:
            continue
        tokens = int(np.isin(one.tokens["input_ids"], preparer.image_ids).sum())
        many = max(min(max_images, preparer.cutoff // max(tokens, 1)), 1)
        # the question's own words take room as well, so the number that fits may be one lower
        found += [
            item for count in {many, many - 1} - {0, 1} if (item := _filled(preparer, count, side))
        ] + [one]
    if not found:
        return preparer.prepare(*_conversation(preparer, 0, 32))
    return max(
        found, key=lambda item: (sum(value.nbytes for value in item.vision.values()), item.length)
    )


def _filled(preparer: ConversationPreparer, count: int, side: int) -> TrainingItem | None:
    try:
        return preparer.prepare(*_conversation(preparer, count, side))
    except Refused:
        return None


def _conversation(preparer: ConversationPreparer, count: int, side: int) -> tuple[Any, list[Any]]:
    from PIL import Image

    from emt_core.data.sample import Sample, Turn

    words = "red cup left of the green box " * (preparer.cutoff // 4)
    turns = (
        Turn(role="user", text="<image>" * count + "\nWhat?"),
        Turn(role="assistant", text=words),
    )
    images = [Image.new("RGB", (side, side), (120, 120, 120))] * count
    return Sample(source="check", row=0, role="pool", turns=turns), images


def measure_step(session: Session, item: TrainingItem, micro: int) -> int:
    """Most bytes in use while steps of `micro` such samples are taken: forward, backward, clipping, optimiser.

    The rate is 0, so weights stay, moments do not. Raises the device's own error where it does not fit.
    """
    from emt_core.training.midtrain.batches import collate

    accelerator = session.accelerator
    batch = collate([item] * micro, 0)
    with PeakMemory(accelerator.device) as peak:
        for _ in range(STEPS):
            session.optimizer.zero_grad(set_to_none=True)
            inputs = {name: value.to(accelerator.device) for name, value in batch.inputs.items()}
            loss = session.module(inputs, batch.labels.to(accelerator.device))
            accelerator.backward(loss / batch.supervised)
            accelerator.clip_grad_norm_(session.module.parameters(), session.config.clip_norm)
            session.optimizer.step()
            del loss
    return peak.bytes
