"""A command under torchrun: two ranks on this machine's CPU."""

from __future__ import annotations

import os
import subprocess
import sys


def torchrun(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*ranks, *command],
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        | environment,
        capture_output=True,
        text=True,
    )
