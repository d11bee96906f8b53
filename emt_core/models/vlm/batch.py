"""Samples as one batch of a VLM: padding, concatenated vision inputs, device and dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from emt_core.models.prepared import Prepared

if TYPE_CHECKING:
    import torch

CONCATENATES_VISION = frozenset({"internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"})
"""Model types whose vision inputs lie along the first axis for a whole batch: tiles (InternVL),
flattened patches and one grid an image (Qwen). Never sliced by batch index. Any other type is run
one sample a pass: how its vision inputs are batched is not known here."""


def collate(
    items: Sequence[Prepared], pad: int, side: Literal["right", "left"] = "right"
) -> dict[str, torch.Tensor]:
    """Arguments of the decoder stack, on the CPU: int64 [n, tokens] (`attention_mask` among them)
    and vision inputs. pad: id that fills `input_ids`; it is masked, so any will do."""
    import torch

    inputs = {
        name: torch.from_numpy(
            pad_rows([item.tokens[name] for item in items], pad if name == "input_ids" else 0, side)
        )
        for name in items[0].tokens
    }
    ones = [np.ones(item.length, np.int64) for item in items]
    inputs["attention_mask"] = torch.from_numpy(pad_rows(ones, 0, side))
    for name in sorted({name for item in items for name in item.vision}):
        parts = [item.vision[name] for item in items if name in item.vision]
        inputs[name] = torch.from_numpy(np.concatenate(parts))
    return inputs


def pad_rows(
    rows: Sequence[np.ndarray], fill: int, side: Literal["right", "left"] = "right"
) -> np.ndarray:
    """int64 [n, longest] of n integer arrays of different lengths."""
    longest = max(map(len, rows))
    padded = np.full((len(rows), longest), fill, np.int64)
    for row, values in enumerate(rows):
        start = 0 if side == "right" else longest - len(values)
        padded[row, start : start + len(values)] = values
    return padded


def move(
    inputs: dict[str, torch.Tensor], device: torch.device, dtype: torch.dtype | None = None
) -> dict[str, torch.Tensor]:
    """The inputs on a device; dtype: of floating-point inputs (None: as they are)."""
    return {
        name: value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)
        for name, value in inputs.items()
    }
