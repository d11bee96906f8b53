"""EMA: the exponential moving average of the weights that are trained (Polyak and Juditsky 1992).

After step t: average <- d average + (1 - d) weights, d = min(decay, (1 + t) / (10 + t)), so that
the first steps are forgotten (TensorFlow's ExponentialMovingAverage with num_updates).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

FILE = "average.safetensors"


class Average:
    """Made before the first step. Costs a copy of the trained weights, on their device."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        """module: as `accelerator.prepare` gave it back; under FSDP a rank keeps its share."""
        self.decay = decay
        self.weights: dict[str, torch.Tensor] = {}
        self._pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        copies: dict[int, torch.Tensor] = {}
        for name, weight in module.named_parameters(remove_duplicate=False):
            if weight.requires_grad:
                if id(weight) not in copies:
                    copies[id(weight)] = weight.detach().clone()
                    self._pairs.append((copies[id(weight)], weight))
                self.weights[name.removeprefix("module.")] = copies[id(weight)]

    def update(self, step: int) -> None:
        """Take in the weights after step 1, 2, ..."""
        import torch

        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for average, weight in self._pairs:
                average.lerp_(weight, 1 - decay)

    def gathered(self) -> dict[str, torch.Tensor]:
        """By the bare module's names, on the CPU; all ranks call it. Tied ones are one tensor."""
        whole: dict[int, torch.Tensor] = {}
        for average in self.weights.values():
            if id(average) not in whole:
                whole[id(average)] = _whole(average).to("cpu")
        return {name: whole[id(average)] for name, average in self.weights.items()}

    def read(self, folder: Path) -> None:
        """From a checkpoint that `write_average` has written to; all ranks call it."""
        import torch
        from safetensors.torch import load_file

        kept = load_file(folder / FILE)
        with torch.no_grad():
            for name, average in self.weights.items():
                if name in kept:  # tied ones are kept once
                    average.copy_(_like(kept[name], average))


def write_average(folder: Path, gathered: dict[str, torch.Tensor]) -> None:
    """Beside the state of a checkpoint."""
    from safetensors.torch import save_file

    once = {value.data_ptr(): name for name, value in gathered.items()}
    save_file({name: gathered[name].contiguous() for name in once.values()}, folder / FILE)


def _whole(value: Any) -> torch.Tensor:
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def _like(value: torch.Tensor, other: Any) -> torch.Tensor:
    """A whole tensor, spread as `other` is."""
    if not hasattr(other, "placements"):
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(other.device)
    return distribute_tensor(value, other.device_mesh, other.placements)
