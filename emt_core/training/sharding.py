"""Whether FSDP spreads a training over its ranks, and what all ranks have to agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether FSDP spreads the weights over the ranks."""
    return str(accelerator.distributed_type).endswith("FSDP")


def agree(accelerator: Accelerator, due: bool) -> bool:
    """What rank 0 says, on every rank: gathering a sharded state takes all of them."""
    if accelerator.num_processes == 1:
        return due
    from accelerate.utils import broadcast_object_list

    return bool(broadcast_object_list([due])[0])
