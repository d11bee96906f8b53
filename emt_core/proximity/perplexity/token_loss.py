"""Negative log likelihood of what the assistant says in a sample, under a VLM: logits at those positions only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.models.encoders.base import choose_device, choose_dtype
from emt_core.proximity.windows import NoScore
from emt_core.training.midtrain.conversations import (
    IGNORE,
    ConversationPreparer,
    Refused,
    TrainingItem,
)

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from emt_core.data.sample import Sample

CHUNK = 1024


class Reader:
    """Samples -> items with their assistant's tokens marked."""

    def __init__(self, model: str, revision: str | None, *, cutoff: int) -> None:
        from emt_core.models.vlm.load import load_processor

        self.preparer = ConversationPreparer(load_processor(model, revision), cutoff=cutoff)
        self.pad = self.preparer.tokenizer.pad_token_id or 0

    def item(self, sample: Sample, images: Sequence[Image.Image]) -> TrainingItem:
        """Raises NoScore where nothing of it can be scored: the assistant says nothing, the images fill the cutoff."""
        try:
            return self.preparer.prepare(sample, images)
        except Refused as refused:
            raise NoScore(refused.reason) from refused


def load_for_loss(model: str, revision: str | None, device: str) -> torch.nn.Module:
    """The VLM in evaluation mode; bfloat16 on a GPU that has it, else float32."""
    from emt_core.models.vlm.load import load_vlm

    where = choose_device(device)
    return load_vlm(model, revision).to(where, choose_dtype("auto", where)).eval()


def mean_losses(vlm: Any, items: Sequence[TrainingItem], pad: int) -> np.ndarray:
    """float64 [n]: mean negative log likelihood (nats) of each item's supervised tokens; its exp is the perplexity."""
    import torch
    from torch.nn.functional import cross_entropy

    from emt_core.training.midtrain.batches import collate

    batch = collate(items, pad)
    device, dtype = next(vlm.parameters()).device, next(vlm.parameters()).dtype
    inputs = {
        n: v.to(device, dtype) if v.is_floating_point() else v.to(device)
        for n, v in batch.inputs.items()
    }
    with torch.inference_mode():
        decoder = getattr(vlm, "model", None) or vlm.base_model
        hidden = decoder(**inputs, use_cache=False).last_hidden_state[:, :-1]
        targets = batch.labels[:, 1:].to(device)
        chosen = targets != IGNORE
        states, wanted = hidden[chosen], targets[chosen]
        losses = torch.cat(
            [
                cross_entropy(vlm.get_output_embeddings()(part).float(), names, reduction="none")
                for part, names in zip(states.split(CHUNK), wanted.split(CHUNK), strict=True)
            ]
        )
        row = chosen.nonzero()[:, 0]
        total = torch.zeros(len(items), dtype=torch.float64, device=device).index_add_(
            0, row, losses.double()
        )
        return (total / torch.bincount(row, minlength=len(items))).cpu().numpy()
