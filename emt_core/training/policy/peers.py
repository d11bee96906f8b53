"""The ranks of one fine-tuning under torchrun: each passes its share of a step's frames, gradients are added up.

Losses are already divided by what all ranks together learn from, so the sum of the ranks' gradients is the gradient of
the whole batch: the number of devices changes nothing but rounding. Alone, nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import distributed

from emt_core.workspace.process import rank, world_size


class Peers:
    def __init__(self, device: torch.device) -> None:
        """Joins the launch's process group where there is one and it has not been joined yet."""
        self.rank, self.world, self.device = rank(), world_size(), device
        if self.world > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, frames: int) -> slice:
        """This rank's frames of a step: every world-th one."""
        return slice(self.rank, frames, self.world)

    def add_up(self, gradients: Sequence[torch.Tensor]) -> None:
        """Replace each gradient by its sum over the ranks, in place."""
        if self.world > 1:
            waiting = [distributed.all_reduce(gradient, async_op=True) for gradient in gradients]
            for work in waiting:
                if work is not None:
                    work.wait()

    def sums(self, values: Sequence[float]) -> list[float]:
        """Sums over the ranks, float64."""
        if self.world == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(together)
        return together.tolist()

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            self.sums([0.0])
