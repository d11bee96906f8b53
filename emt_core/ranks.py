"""One command line in several processes (torchrun): rank 0 does what a single process does, the others help it train.

    torchrun --nproc-per-node 8 -m emt_core.cli midtrain RECIPE --workspace W

Every rank runs the same plan. Rank 0 locks, builds, commits and keeps the books. For a stage that trains on several
devices (`DISTRIBUTED = True` in its file) the other ranks run the stage as well, beside rank 0's folder under
construction and without ever writing there; for every other stage they wait until rank 0 has committed it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from emt_core.artifact import Artifact, Workspace
from emt_core.errors import EmtError

if TYPE_CHECKING:
    from emt_core.plan import Instance, Plan

LOOK_EVERY_S = 0.2


def rank() -> int:
    """This process's rank; 0 outside torchrun."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def world_size() -> int:
    """Processes of this launch; 1 outside torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def follow(instance: Instance, workspace: Workspace, plan: Plan) -> Artifact:
    """On rank 1 and up: help to build one artifact, or wait for it. torchrun ends all ranks when one fails."""
    from emt_core.plan import stage_module
    from emt_core.progress import Progress
    from emt_core.stages import Context

    module = stage_module(instance.stage)
    helped = not getattr(module, "DISTRIBUTED", False)
    while (found := workspace.find(instance.stage, instance.key)) is None:
        building = workspace.building(instance.stage, instance.key)
        # with a manifest there is nothing to help with: rank 0 only finishes an interrupted commit
        if not helped and (building / "data").is_dir() and not (building / "manifest.json").exists():
            module.run(
                Context(
                    config=instance.config,
                    identity=instance.identity,
                    base=plan.recipe.base,
                    parents={name: _parent(workspace, parent) for name, parent in instance.parents.items()},
                    out=building / "data",
                    runtime=plan.recipe.runtime,
                    progress=Progress(label=instance.label, quiet=True),
                    workspace=workspace,
                )
            )
            helped = True
        time.sleep(LOOK_EVERY_S)
    return found


def _parent(workspace: Workspace, parent: Instance) -> Artifact:
    found = workspace.find(parent.stage, parent.key)
    if found is None:
        raise EmtError(f"{parent.label} is not there", remedy=f"run `emt {parent.stage}` first")
    return found
