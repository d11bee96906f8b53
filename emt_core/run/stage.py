"""The contract between the runner and a stage. A stage's file holds

VERSION: int                          raised by hand when the stage's output would change
identity(config, base) -> JSON        optional: facts beyond the config that determine the output
IDENTITY_REPLACES: tuple[str, ...]    config fields that the identity stands for, as a model's path
DEVICE = True                         optional: it always runs a model, on runtime.device
TRACKED = True                        optional: it sends its steps to runtime.report_to
check(instance, base) -> None         optional: raises EmtError for what settings and metadata show
disk(instance, base) -> [DiskNeed]    optional: what running it takes on disk
run(context) -> Outcome               works inside context.out, which survives a kill; resumes there

and, where several processes can make its rows at once (run/shards.py, run/engines/),

shards(context) -> [Shard]            ranges of rows that a worker may make, in row order
open_worker(context)                  context manager: what a worker loads once; it gives a function
                                      that makes one shard and marks it done; `run` takes done ones
                                      over, in row order, and makes what is missing

and imports torch, lance and the like only inside functions. No stage imports another.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from emt_core.errors import EmtError
from emt_core.recipe.base import Runtime, StageConfig
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.progress import Progress


def stage_module(stage: str) -> ModuleType:
    """The file emt_core/stages/<stage>.py. Importing it loads no torch."""
    return importlib.import_module(f"emt_core.stages.{stage}")


def frame_folder(runtime: Runtime, workspace: Path) -> Path:
    """Where the frame cache lies. Raises EmtError where a variable of its setting is not set."""
    place = os.path.expandvars(runtime.frame_cache)
    if "$" in place:
        raise EmtError(
            f"the folder of the frame cache has a variable that is not set: {runtime.frame_cache}",
            where="runtime.frame_cache",
            remedy="set it, or name a folder",
        )
    return workspace / Path(place).expanduser()


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a stage gets."""

    config: StageConfig
    identity: Any
    base: Path
    """Folder that relative paths of the recipe start from."""

    parents: Mapping[str, Artifact]
    out: Path
    """The data folder under construction. What an interrupted run committed is still here: continue
    from it."""

    runtime: Runtime
    progress: Progress
    workspace: Workspace


@dataclass(frozen=True, kw_only=True)
class DiskNeed:
    """Something that a stage will write, told before it runs."""

    what: str
    bytes: int | None
    """None: unknown, as of a model that is not on this machine."""

    kind: Literal["result", "scratch", "frames"]
    """`scratch` is gone when the stage is done; `frames` lies in the frame cache."""

    key: str = ""
    """Of frames: needs of one key are one cache."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a stage says of its output; written into the manifest."""

    rows: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """JSON; small (a page reads it whole)."""

    scratch: tuple[str, ...] = ()
    """Files and folders of `out` that only an interrupted run needs. The commit removes them, never
    the stage: what a stage removed itself would be missing where its commit fails."""
