"""The command line under FSDP, a checkpoint each step; ends where nothing is sharded (3, 4), or
before step STOP_AT (9)."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from emt_core.cli.__main__ import main
from emt_core.training.midtrain import session
from emt_core.training.midtrain.loop import Trainer
from emt_core.training.policy import finetuning

SHARE = 0.6
"""Most of the weights that one of two ranks holds."""

session.CHECKPOINT_SECONDS = finetuning.CHECKPOINT_SECONDS = 0.0
stop = int(os.environ["STOP_AT"])


def check_each_step(loop: Any) -> None:
    step = loop._step

    def checked(self: Any, number: int, *rest: Any) -> Any:
        held = whole = 0
        for parameter in self.module.parameters():
            if not isinstance(parameter, DTensor):
                os._exit(3)
            held += parameter.to_local().numel()
            whole += parameter.numel()
        if held > SHARE * whole:
            os._exit(4)
        if number == stop:
            torch.distributed.barrier()  # rank 0 may be writing the checkpoint before it
            os._exit(9)
        return step(self, number, *rest)

    loop._step = checked


check_each_step(Trainer)
check_each_step(finetuning.Finetuner)
sys.exit(main(sys.argv[1:]))
