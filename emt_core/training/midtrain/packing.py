"""Sequence packing: several samples in one row, each as if it were alone.

A row holds samples one behind another, up to `cutoff` tokens. No token sees another sample's, and
each sample's positions begin anew, so that its loss is that of a row of its own (to rounding).

    rows_of           which samples share a row: first fit, longest first
    collate_packed    samples -> a micro-batch with `segments`: which sample a token belongs to

models/vlm/packed.py keeps the samples apart inside the model's pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emt_core.models.vlm.packed import SEGMENTS
from emt_core.training.midtrain.micro_batch import IGNORE, MicroBatch, TrainingItem, collate


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
