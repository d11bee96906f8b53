"""The devices that a training runs on, over accelerate: one alone, or the ranks of a torchrun."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from emt_core.errors import EmtError
from emt_core.models.device import Precision, choose_dtype, dtype_name
from emt_core.recipe.base import Sharding
from emt_core.run.device import choose_device
from emt_core.run.requirements import require
from emt_core.training.sharding import is_sharded

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.utils import FullyShardedDataParallelPlugin

FSDP_SWITCH = "ACCELERATE_USE_FSDP"
"""accelerate's own switch, which it reads from the environment."""


def open_accelerator(
    device: str,
    precision: Precision,
    *,
    sharding: Sharding = "none",
    find_unused: bool = True,
) -> Accelerator:
    """accelerate for this process: alone, or one rank of a torchrun. device, sharding: as in
    Runtime.

    find_unused: whether a pass may leave a trained parameter without gradient; under DDP the search
    for them costs a walk of the graph each pass. Raises EmtError where nothing can be sharded, or
    not in this way.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    chosen = choose_device(device)
    require(sharding, where=f"runtime.sharding: {sharding}", gpu=chosen.type == "cuda")
    if chosen.type == "cuda" and chosen.index is not None:
        import torch

        torch.cuda.set_device(chosen)
    mixed = "bf16" if dtype_name(choose_dtype(precision, chosen)) == "bfloat16" else "no"
    unused = DistributedDataParallelKwargs(find_unused_parameters=find_unused)
    plugin = _fsdp_plugin(mixed) if sharding == "fsdp" else None
    before = os.environ.get(FSDP_SWITCH)
    accelerator = Accelerator(
        mixed_precision=mixed,
        cpu=chosen.type == "cpu",
        kwargs_handlers=[unused],
        fsdp_plugin=plugin,
    )
    if before is None:  # a plugin sets it for the whole process, also for later trainings
        os.environ.pop(FSDP_SWITCH, None)
    if plugin is not None:
        _shard(accelerator, plugin)
    return accelerator


def _fsdp_plugin(mixed: str) -> FullyShardedDataParallelPlugin:
    """FSDP2 by the model's layers. mixed: accelerate's name of the arithmetic, "no" for float32.

    Weights are gathered in the arithmetic's precision. Gradients are summed in float32 and a loss
    stays in it; accelerate's own policy takes bfloat16 for both.
    """
    import torch
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    policy = None
    if mixed == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        mixed_precision_policy=policy,
    )


def _shard(accelerator: Accelerator, plugin: FullyShardedDataParallelPlugin) -> None:
    """Make sure that FSDP is in force. Raises EmtError where it cannot be.

    accelerate takes an FSDP plugin on CPUs without a word and trains with DDP. FSDP2 runs on gloo,
    so its settings are put in force here as accelerate does for GPUs.
    """
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    if accelerator.num_processes == 1:
        close_accelerator()
        raise EmtError(
            "one process has nothing to shard",
            where="runtime.sharding: fsdp",
            remedy="start it under torchrun with several processes, or set runtime.sharding: none",
        )
    if accelerator.distributed_type == DistributedType.MULTI_CPU:
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    if not is_sharded(accelerator):
        kind = str(accelerator.distributed_type).removeprefix("DistributedType.")
        close_accelerator()
        raise EmtError(
            f"FSDP cannot run on {kind} devices",
            where="runtime.sharding: fsdp",
            remedy="set runtime.sharding: none",
        )


def close_accelerator() -> None:
    """Forget accelerate's settings of this process: its next training may want another precision.

    Ranks of a torchrun stay joined.
    """
    import torch
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
