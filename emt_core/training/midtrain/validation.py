"""The loss on samples of the selection that are never trained on, measured while training runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from emt_core.models.vlm.batch import move
from emt_core.training.midtrain.batches import Selection
from emt_core.training.midtrain.micro_batch import Plan

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

MOST_SAMPLES = 1_024
"""Held-out samples that are measured at the most: a seeded draw of a larger share."""

TIMES = 20
"""Measurements in a training whose recipe does not say how often."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Mean loss over the supervised tokens of the held-out samples, as a step's loss is one."""

    selection: Selection
    accelerator: Accelerator
    module: torch.nn.Module
    """The loss, as accelerate wrapped it."""

    steps: int
    every: int
    """Steps between two measurements; 0: TIMES in all."""

    def at(self, step: int, plan: Plan) -> float | None:
        """In nats a token; None where the step is not measured or no sample can be learned from.

        plan: its micro-batch and ranks count. All ranks call it.
        """
        every = self.every or max(self.steps // TIMES, 1)
        if step % every and step != self.steps:
            return None
        self.module.eval()
        try:
            summed, supervised = self._sums(plan)
        finally:
            self.module.train()
        return summed / supervised if supervised else None

    def _sums(self, plan: Plan) -> tuple[float, float]:
        """(sum of the losses, supervised tokens), of all ranks."""
        import torch

        places = np.argsort(self.selection.expected_lengths(), kind="stable")
        device = self.accelerator.device
        total = torch.zeros(2, dtype=torch.float64, device=device)
        with torch.no_grad():
            for chunk in replace(plan, batch=len(places)).chunks(places):
                batch = self.selection.micro_batch(chunk.tolist())
                loss = self.module(move(batch.inputs, device), batch.labels.to(device))
                total += total.new_tensor([loss.item(), batch.supervised])
        if self.accelerator.num_processes > 1:
            total: torch.Tensor = self.accelerator.reduce(total, "sum")  # pyright: ignore
        summed, supervised = total.tolist()
        return summed, supervised


def measured_rows(rows: np.ndarray, seed: int) -> np.ndarray:
    """At most MOST_SAMPLES of the held-out rows, int64, in rising order."""
    if len(rows) <= MOST_SAMPLES:
        return np.sort(rows)
    stream = np.random.default_rng([seed, 11])
    return np.sort(stream.choice(rows, MOST_SAMPLES, replace=False))
