"""The command line under FSDP, a checkpoint each step; ends where nothing is sharded (3, 4), or
before step STOP_AT (9)."""

from __future__ import annotations

import os
import sys
from typing import Any

from torch.distributed.tensor import DTensor

from emt_core.cli.__main__ import main
from emt_core.training.midtrain import session
from emt_core.training.midtrain.loop import Trainer

SHARE = 0.6
"""Most of the weights that one of two ranks holds."""

session.CHECKPOINT_SECONDS = 0.0
step = Trainer._step
stop = int(os.environ["STOP_AT"])


def checked(self: Trainer, number: int, *rest: Any) -> Any:
    held = whole = 0
    for parameter in self.module.parameters():
        if not isinstance(parameter, DTensor):
            os._exit(3)
        held += parameter.to_local().numel()
        whole += parameter.numel()
    if held > SHARE * whole:
        os._exit(4)
    if number == stop:
        os._exit(9)
    return step(self, number, *rest)


Trainer._step = checked
sys.exit(main(sys.argv[1:]))
