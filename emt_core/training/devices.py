"""The devices that a training runs on, over accelerate: one alone, or the ranks of a torchrun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emt_core.models.device import Precision, choose_dtype, dtype_name
from emt_core.run.device import choose_device

if TYPE_CHECKING:
    from accelerate import Accelerator


def open_accelerator(device: str, precision: Precision) -> Accelerator:
    """accelerate for this process: alone, or one rank of a torchrun. device: as in Runtime."""
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    chosen = choose_device(device)
    if chosen.type == "cuda" and chosen.index is not None:
        import torch

        torch.cuda.set_device(chosen)
    mixed = "bf16" if dtype_name(choose_dtype(precision, chosen)) == "bfloat16" else "no"
    # a pass of text alone leaves the vision encoder without gradient
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(mixed_precision=mixed, cpu=chosen.type == "cpu", kwargs_handlers=[unused])


def close_accelerator() -> None:
    """Forget accelerate's settings of this process: its next training may want another precision.

    Ranks of a torchrun stay joined.
    """
    import torch
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether FSDP spreads the weights over the ranks."""
    return str(accelerator.distributed_type).endswith("FSDP")
