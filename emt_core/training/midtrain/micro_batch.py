"""What a step of training is made of: items, micro-batches, and how a batch is cut into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from emt_core.models.prepared import Prepared
from emt_core.models.vlm import batch as vlm_batch

if TYPE_CHECKING:
    import torch

IGNORE = -100
"""Label of a token that is not learned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingItem(Prepared):
    """One sample with its labels."""

    id: str
    labels: np.ndarray
    """int64 [length], IGNORE where not learned."""


@dataclass(kw_only=True)
class MicroBatch:
    """Padded on the right."""

    inputs: dict[str, torch.Tensor]
    """Arguments of the decoder stack, `attention_mask` among them."""

    labels: torch.Tensor
    """int64 [n, tokens]."""

    ids: list[str]
    tokens: int
    """Without padding."""

    supervised: int
    """Labels that are learned (the first token of a sequence cannot be)."""

    rejected: list[dict[str, str]] = field(default_factory=list)
    """{"id", "reason", "detail"} of samples that were left out."""


def collate(items: Sequence[TrainingItem], pad: int) -> MicroBatch:
    """One padded batch. pad: id that fills `input_ids`; it is masked and unlabeled."""
    import torch

    labels = vlm_batch.pad_rows([item.labels for item in items], IGNORE)
    return MicroBatch(
        inputs=vlm_batch.collate(items, pad),
        labels=torch.from_numpy(labels),
        ids=[item.id for item in items],
        tokens=sum(item.length for item in items),
        supervised=int((labels[:, 1:] != IGNORE).sum()),
    )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a global batch is cut up. micro: most samples a pass; world, rank: of the processes."""

    batch: int
    micro: int
    world: int = 1
    rank: int = 0

    @property
    def passes(self) -> int:
        """Accumulated passes a step, the same on every rank."""
        return -(-self.batch // (self.world * self.micro))

    def chunks(self, places: np.ndarray) -> list[np.ndarray]:
        """This rank's share of a step's places in `passes` chunks, some of them maybe empty."""
        return np.array_split(places, self.world * self.passes)[self.rank :: self.world]
