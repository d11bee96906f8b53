"""What training takes: counted beforehand, measured while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

STATE_BYTES = {"adamw": 8, "adamw_8bit": 2}
"""Of the optimiser's two moments, a trained parameter."""

ROOM = 0.9
"""Share of a device that a plan may fill: allocators do not pack tightly, and lengths vary."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Bytes of training: a fixed part, and a part for every sample of a pass."""

    weights: int
    gradients: int
    states: int
    per_sample: int = 0
    """Activations of one sample at the cutoff length; measured."""

    @property
    def fixed(self) -> int:
        return self.weights + self.gradients + self.states

    def total(self, micro: int) -> int:
        return self.fixed + micro * self.per_sample

    def largest_micro(self, available: int, batch: int) -> int:
        """The largest power of two of samples a pass that fits (0: not even one), at most `batch`."""
        micro = 0
        while self.total(max(2 * micro, 1)) <= ROOM * available and max(2 * micro, 1) <= batch:
            micro = max(2 * micro, 1)
        return micro


def expected_memory(parameters: int, trained: int, optimizer: Literal["adamw", "adamw_8bit"] = "adamw") -> Expected:
    """Weights and gradients in float32 (also with bfloat16 arithmetic), moments as the optimiser keeps them."""
    return Expected(weights=4 * parameters, gradients=4 * trained, states=STATE_BYTES[optimizer] * trained)


def peak_memory_mb(device: torch.device) -> float:
    """Most that was in use so far: of the GPU, or of this process (resident) on a CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def available_memory(device: torch.device) -> int:
    """Bytes that could be used now."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    import psutil

    return psutil.virtual_memory().available


def release_memory() -> None:
    """After a failed pass: its tensors hang on the traceback and in the allocator's cache."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
