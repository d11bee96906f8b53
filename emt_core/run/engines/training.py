"""Training on several GPUs: the same run once more under torchrun, up to one instance.

On this machine with a process for each GPU; with the engine `slurm` as one job, a process for each
GPU of it. The launched ranks lock, build and commit (run/runner.py); this process waits for them.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from emt_core.errors import EmtError
from emt_core.recipe.recipe import Recipe
from emt_core.run.device import gpus_for
from emt_core.run.stage import stage_module
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json_if_there
from emt_core.workspace.process import LAUNCHED, run_to_end, world_size
from emt_core.workspace.progress import Progress


def ranks_of(stage: str, recipe: Recipe) -> int:
    """Processes to launch for a stage; 0: this process runs it, as it does without a file."""
    distributed = getattr(stage_module(stage), "DISTRIBUTED", False)
    if not distributed or world_size() > 1 or LAUNCHED in os.environ or recipe.file is None:
        return 0
    runtime = recipe.runtime
    if runtime.engine == "slurm":
        return runtime.training_processes or max(runtime.slurm.gpus, 1)
    count = runtime.training_processes or gpus_for(runtime.device)
    return count if count > 1 else 0


def launch(
    recipe: Recipe, label: str, building: Path, ranks: int, workspace: Workspace, progress: Progress
) -> None:
    """Run a recipe up to one instance under torchrun, and wait. Raises EmtError where it fails.

    building: the folder under construction, which keeps why it failed.
    """
    workspace.check_writable()
    runtime = recipe.runtime
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), "-m", "emt_core.cli", "run", str(recipe.file)]
    command += ["--workspace", str(workspace.path), "--until", label]
    for item in recipe.overrides:
        command += ["--set", item]
    where = "in a Slurm job" if runtime.engine == "slurm" else "here"
    progress.say(f"{ranks} processes train {where}")
    (building / "failure.json").unlink(missing_ok=True)  # of an earlier run
    if runtime.engine == "slurm":
        slurm = importlib.import_module("emt_core.run.engines.slurm")
        logs = workspace.path / "slurm" / building.name.removesuffix(".building")
        code = slurm.run_command(command, logs, f"emt-{label}", runtime.slurm, progress)
    else:
        code = run_to_end(command, {LAUNCHED: "1"})
    if code:
        failure = read_json_if_there(building / "failure.json") or {}
        said = str(failure.get("message", f"its processes ended with code {code}"))
        raise EmtError(
            f"{label}: {said.splitlines()[0]}",
            where=building,
            remedy="the log has more; what is done is kept, run again to go on",
        )
