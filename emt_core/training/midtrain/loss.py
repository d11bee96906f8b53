"""Cross-entropy of the supervised tokens, with logits at those positions only.

A vocabulary of 152,000 makes logits the largest tensor of a step: 32 x 1,024 positions in float32
are 20 GB. Answers are a small part of a sequence, so the head sees only the hidden states that a
label looks at, CHUNK of them at a time, and beyond one chunk logits are made again in the backward
pass instead of being kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from emt_core.models.vlm.load import decoder_of
from emt_core.models.vlm.packed import SEGMENTS, unpack
from emt_core.training.midtrain.memory import Expected
from emt_core.training.midtrain.micro_batch import IGNORE

CHUNK = 2048

LOGIT_BYTES = 16
"""Most that one logit takes: in bfloat16, float32 and log-softmax, and two gradients."""


class SupervisedLoss(nn.Module):
    """The VLM with its loss: what DDP and FSDP wrap."""

    def __init__(self, vlm: Any, *, chunk: int = CHUNK) -> None:
        super().__init__()
        self.vlm = vlm
        self.chunk = chunk
        self._no_split_modules = getattr(vlm, "_no_split_modules", None)
        """What FSDP's automatic wrapping by layer asks for."""

    def forward(self, inputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Sum (not mean) over the supervised tokens, float32 scalar. labels int64 [n, tokens]."""
        if SEGMENTS in inputs:
            inputs = unpack(self.vlm, inputs)
        hidden = decoder_of(self.vlm)(**inputs, use_cache=False).last_hidden_state
        targets = labels[:, 1:]
        chosen = targets != IGNORE
        targets = targets[chosen]
        states = hidden[:, :-1][chosen]
        if len(targets) <= self.chunk:
            return self._sum(states, targets)
        parts = zip(states.split(self.chunk), targets.split(self.chunk), strict=True)
        losses = [checkpoint(self._sum, *part, use_reentrant=False) for part in parts]
        return torch.stack(losses).sum()  # pyright: ignore[reportArgumentType]

    def _sum(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.vlm.get_output_embeddings()(states)
        return functional.cross_entropy(logits.float(), targets, reduction="sum")


def with_logits(expected: Expected, labels: np.ndarray, vocabulary: int) -> Expected:
    """The memory that the logits of one sample take, and of one CHUNK. labels: int64 [length]."""
    each = vocabulary * LOGIT_BYTES
    learned = int((labels[1:] != IGNORE).sum())
    return replace(expected, logits=learned * each, logits_most=CHUNK * each)
