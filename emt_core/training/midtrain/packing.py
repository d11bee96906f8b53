"""Sequence packing: several samples in one row, each as if it were alone.

A row holds samples one behind another, up to `cutoff` tokens. No token sees another sample's, and
each sample's positions begin anew, so that its loss is that of a row of its own (to rounding).

    rows_of        which samples share a row: first fit, longest first
    collate_packed samples -> a micro-batch with `segments`: which sample a token belongs to
    unpack         `segments` -> attention mask and positions, inside the model's pass
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.training.midtrain.micro_batch import IGNORE, MicroBatch, TrainingItem, collate

if TYPE_CHECKING:
    import torch

SEGMENTS = "segments"
"""Key of a packed batch: int64 [rows, tokens], the sample of each token from 1; 0 is padding."""

KEEPS_APART = frozenset({"internvl", "qwen3_vl"})
"""Model types whose samples are known to stay apart: tests compare their losses and gradients."""

MASKED = frozenset({"sdpa", "eager"})
"""Attention that takes a mask of its own for each row."""


def check_packing(vlm: Any) -> None:
    """Raises EmtError where this model's samples would not be kept apart."""
    kind = vlm.config.model_type
    text = vlm.config.get_text_config()
    attention = getattr(text, "_attn_implementation", None)
    windows = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    problem = None
    if kind not in KEEPS_APART:
        problem = f"how to keep samples of a {kind} model apart is not known"
    elif attention not in MASKED:
        problem = f"{attention} attention takes no mask that keeps samples apart"
    elif windows:
        problem = f"the model has layers of {', '.join(sorted(windows))}"
    if problem:
        raise EmtError(
            f"packing is not possible: {problem}",
            where="midtrain.packing",
            remedy="leave packing out, or train an InternVL or Qwen3-VL model with sdpa attention",
        )


def rows_of(lengths: Sequence[int] | np.ndarray, cutoff: int) -> list[list[int]]:
    """Places of `lengths` by row, none of more than `cutoff` tokens unless one alone has them.

    First fit with the longest first; equal lengths in their order.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        length = int(lengths[place])
        row = next((at for at, left in enumerate(room) if left >= length), None)
        if row is None:
            rows.append([place])
            room.append(cutoff - length)
        else:
            rows[row].append(place)
            room[row] -= length
    return rows


def collate_packed(items: Sequence[TrainingItem], pad: int, cutoff: int) -> MicroBatch:
    """As `collate`, but with as few rows as hold the items."""
    import torch

    rows = rows_of([item.length for item in items], cutoff)
    joined = [_joined([items[place] for place in row]) for row in rows]
    batch = collate(joined, pad)
    segments = np.zeros(batch.labels.shape, np.int64)
    sample = 0
    for at, row in enumerate(rows):
        start = 0
        for place in row:
            sample += 1
            segments[at, start : start + items[place].length] = sample
            start += items[place].length
    batch.inputs[SEGMENTS] = torch.from_numpy(segments)
    batch.ids = [item.id for item in items]
    return batch


def _joined(items: Sequence[TrainingItem]) -> TrainingItem:
    labels = [item.labels.copy() for item in items]
    for own in labels:
        own[0] = IGNORE  # the token before it is another sample's
    names = sorted({name for item in items for name in item.vision})
    return TrainingItem(
        id="",
        length=sum(item.length for item in items),
        labels=np.concatenate(labels),
        tokens={
            name: np.concatenate([item.tokens[name] for item in items]) for name in items[0].tokens
        },
        vision={
            name: np.concatenate([item.vision[name] for item in items if name in item.vision])
            for name in names
        },
    )


def unpack(vlm: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The decoder's inputs of a packed batch: mask [rows, 1, tokens, tokens] and positions.

    Positions are [rows, tokens], or [3, rows, tokens] of models with M-RoPE.
    """
    inputs = dict(inputs)
    segments = inputs.pop(SEGMENTS)
    decoder = getattr(vlm, "model", vlm)
    if hasattr(decoder, "get_rope_index"):
        inputs["position_ids"] = _multimodal_positions(decoder, inputs, segments)
    else:
        inputs["position_ids"] = _positions(segments)
    text = vlm.config.get_text_config()
    dtype = vlm.get_input_embeddings().weight.dtype
    inputs["attention_mask"] = _mask(segments, text._attn_implementation, dtype)
    return inputs


def _positions(segments: torch.Tensor) -> torch.Tensor:
    """int64 [rows, tokens]: the place of each token in its sample."""
    import torch

    at = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return at - torch.where(begins, at, 0).cummax(dim=1).values


def _mask(segments: torch.Tensor, attention: str, dtype: torch.dtype) -> torch.Tensor:
    """[rows, 1, tokens, tokens]: earlier tokens of the same sample; padding sees padding.

    bool for sdpa, else what is added to the scores.
    """
    import torch

    same = segments[:, None, :, None] == segments[:, None, None, :]
    seen = same & torch.ones_like(same[0, 0]).tril()
    if attention == "sdpa":
        return seen
    return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)


def _multimodal_positions(
    decoder: Any, inputs: dict[str, torch.Tensor], segments: torch.Tensor
) -> torch.Tensor:
    """int64 [3, rows, tokens]: the model's own positions of each sample, taken alone."""
    import torch

    samples = int(segments.max())
    at = segments.flatten()
    inside = at > 0
    sample = at[inside] - 1
    place = _positions(segments).flatten()[inside]
    longest = int(place.max()) + 1

    def alone(tokens: torch.Tensor) -> torch.Tensor:
        """[rows, tokens] -> [samples, longest]."""
        spread = tokens.new_zeros(samples, longest)
        spread[sample, place] = tokens.flatten()[inside]
        return spread

    tokens = {
        name: alone(value)
        for name, value in inputs.items()
        if value.shape == segments.shape and name != "attention_mask"
    }
    grids = {name: value for name, value in inputs.items() if name.endswith("_grid_thw")}
    there = alone(torch.ones_like(segments))
    own, _ = decoder.get_rope_index(**tokens, **grids, attention_mask=there)
    positions = own.new_zeros(3, at.numel())
    positions[:, inside] = own[:, sample, place]
    return positions.view(3, *segments.shape)
