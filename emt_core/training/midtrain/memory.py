"""What training takes: counted beforehand, measured while it runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from emt_core.recipe.update import STATE_BYTES
from emt_core.run.host import memory

if TYPE_CHECKING:
    import torch

ROOM = 0.9
"""Share of a device that a plan may fill: allocators do not pack tightly, and lengths vary."""

LOOK_EVERY_S = 0.005
"""Between two looks at the resident memory of a process on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Bytes of training: a fixed part, and a part for every sample of a pass."""

    weights: int
    gradients: int
    states: int
    casts: int = 0
    """What a pass keeps whatever its size (weights in the arithmetic's precision)."""

    per_sample: int = 0
    """Activations of one sample as large as the settings allow."""

    logits: int = 0
    """Logits of that sample and what their loss is worked out with; counted."""

    logits_most: int = 0
    """The same of as many tokens as loss.py works on at a time: a larger pass has no more."""

    @property
    def fixed(self) -> int:
        return self.weights + self.gradients + self.states + self.casts

    def total(self, micro: int) -> int:
        """Most in use during a step in passes of `micro` samples."""
        return self.fixed + micro * self.per_sample + min(micro * self.logits, self.logits_most)

    def largest_micro(self, available: int, batch: int) -> int:
        """Samples a pass that fit: `batch`, else the largest power of two below it, else 0.

        available: bytes, what training holds already included.
        """
        if self.total(batch) <= ROOM * available:
            return batch
        micro = 1
        while micro <= batch and self.total(micro) <= ROOM * available:
            micro *= 2
        return micro // 2


def expected_memory(
    parameters: int,
    trained: int,
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw",
    *,
    devices: int = 1,
) -> Expected:
    """Weights and gradients in float32 (whatever the arithmetic), moments as the optimizer has
    them.

    devices: above 1, DDP keeps the gradients once more, in the buckets that it exchanges.
    """
    copies = 2 if devices > 1 else 1
    return Expected(
        weights=4 * parameters,
        gradients=4 * copies * trained,
        states=STATE_BYTES[optimizer] * trained,
    )


def peak_memory_mb(device: torch.device) -> float:
    """Most that was in use so far: of the GPU, or of this process (resident) on a CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def available_memory(device: torch.device) -> int:
    """Bytes that could be used now, beside what this process has in use."""
    import torch

    if device.type == "cuda":
        # what the allocator holds back counts as free, the tensors in it do not
        spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + spare
    return memory().free


def held_memory(module: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None) -> int:
    """Bytes of the parameters, gradients and optimizer states that exist now."""
    import torch

    held: list[Any] = list(module.parameters())
    held += [parameter.grad for parameter in module.parameters()]
    if optimizer is not None:
        held += [value for state in optimizer.state.values() for value in state.values()]
    storages = [value.untyped_storage() for value in held if isinstance(value, torch.Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


class PeakMemory:
    """`with PeakMemory(device) as peak: ...`, then `peak.bytes`: the most that was in use.

    Of the GPU's allocator; on a CPU of this process (resident), looked at every few milliseconds.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes = 0
        self._over = threading.Event()

    def __enter__(self) -> PeakMemory:
        import torch

        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        import torch

        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
        else:
            self._over.set()
            self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            self.bytes = max(self.bytes, resident_memory())
        self.bytes = max(self.bytes, resident_memory())


def resident_memory() -> int:
    """Bytes of this process in main memory."""
    import psutil

    return psutil.Process().memory_info().rss


def size_text(count: int) -> str:
    """`1.50 GiB`, `12.0 MiB`."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
