"""A run of ten steps that goes to trackers, as a process: `WORKSPACE TRACKER BEGUN_AFTER KILLED_AT`.

Kills itself after the line of step KILLED_AT (0: not at all). A connection to anything but this
process ends it with 7.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emt_core.recipe.base import Runtime
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.run.stage import Context
from emt_core.training.steps_log import StepsLog
from emt_core.training.tracking import open_tracking
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.progress import Progress

STEPS = 10


def context_of(workspace: Path, *trackers: str) -> Context:
    """Of a finetune with the key `abc`."""
    space = Workspace.open(workspace, create=True)
    out = space.building("finetune", "abc") / "data"
    out.mkdir(parents=True, exist_ok=True)
    return Context(
        config=FinetuneConfig(model="vlm"),
        identity=None,
        base=workspace,
        parents={},
        out=out,
        runtime=Runtime.model_validate({"report_to": trackers}),
        progress=Progress(label="finetune.mine", quiet=True),
        workspace=space,
    )


@contextmanager
def steps_log(context: Context, after: int = 0) -> Iterator[StepsLog]:
    with open_tracking("finetune", context) as tracking:
        yield StepsLog(context.out / "steps.jsonl", after=after, track=tracking.log)


def curve(step: int) -> dict[str, Any]:
    return {"loss": 1 / step, "tokens": 7 * step, "loss_gripper": None}


def refuse(*arguments: Any, **options: Any) -> Any:
    print("a connection was asked for:", arguments[:3], file=sys.stderr, flush=True)
    os._exit(7)


def main(workspace: str, tracker: str, after: str, killed_at: str) -> None:
    socket.getaddrinfo = socket.create_connection = refuse
    connect = socket.socket.connect

    def connect_here(own: socket.socket, address: Any) -> None:
        (connect if own.family == socket.AF_UNIX else refuse)(own, address)

    socket.socket.connect = connect_here  # type: ignore[method-assign]
    with steps_log(context_of(Path(workspace), tracker), int(after)) as log:
        for step in range(int(after) + 1, STEPS + 1):
            log.write(step, curve(step))
            if step == int(killed_at):
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
