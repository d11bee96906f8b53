"""What can be known before anything heavy starts: mistakes, what is missing, room on the disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError, raise_together
from emt_core.recipe.recipe import Recipe
from emt_core.run.plan import Instance, stage_module
from emt_core.run.stage import DiskNeed, frame_folder
from emt_core.workspace.artifact import Workspace


@dataclass(frozen=True)
class Forecast:
    """Of instances that are not there yet: what each takes on disk, and every known problem."""

    needs: dict[str, list[DiskNeed]]
    """By the instance's label; only those that say it."""

    problems: list[EmtError]


def forecast(
    instances: Sequence[Instance], recipe: Recipe, workspace: Workspace | None
) -> Forecast:
    """workspace None: there is none yet; the disks' room is not looked at."""
    problems: list[EmtError] = []

    def tried(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except EmtError as error:
            problems.append(error)
            return None

    needs = {}
    for one in instances:
        module = stage_module(one.stage)
        if one.problem:
            problems.append(one.problem)
            continue
        sound = not hasattr(module, "check") or tried(partial(_check, module, one, recipe.base))
        if sound and hasattr(module, "disk"):
            needs[one.label] = tried(partial(module.disk, one, recipe.base)) or []
    tried(partial(_check_bound, needs, recipe))
    if workspace is not None:
        tried(partial(_check_room, instances, needs, recipe, workspace))
    return Forecast(needs, problems)


def _check(module: Any, instance: Instance, base: Path) -> bool:
    """Raises EmtError that names the instance."""
    try:
        module.check(instance, base)
    except EmtError as error:
        where = f"{instance.label}, {error.where}" if error.where else instance.label
        raise EmtError(error.what, where=where, remedy=error.remedy) from error
    return True


def gigabytes(needs: Sequence[DiskNeed], kind: str) -> float:
    """Of that kind; what is unknown counts as nothing."""
    return sum(need.bytes or 0 for need in needs if need.kind == kind) / 1e9


def _check_bound(needs: dict[str, list[DiskNeed]], recipe: Recipe) -> None:
    bound = recipe.runtime.frame_cache_gb
    problems = []
    for label, found in needs.items():
        wanted = gigabytes(list({need.key: need for need in found}.values()), "frames")
        if wanted > bound:
            problems.append(
                EmtError(
                    f"the frames of {label} take about {wanted:,.1f} GB, the bound of the frame "
                    f"cache is {bound:g} GB",
                    where="runtime.frame_cache_gb",
                    remedy="raise it, or set a smaller image_size or a limit of episodes",
                )
            )
    raise_together(problems)


def _check_room(
    instances: Sequence[Instance],
    needs: dict[str, list[DiskNeed]],
    recipe: Recipe,
    workspace: Workspace,
) -> None:
    """Results add up; of what is gone when a stage is done, the largest counts."""
    caches = frame_folder(recipe.runtime, workspace.path)
    results = 0.0
    scratch = 0.0
    for one in instances:
        found = needs.get(one.label, [])
        there = _size(workspace.building(one.stage, one.key)) / 1e9
        results += max(gigabytes(found, "result") - there, 0)
        scratch = max(scratch, gigabytes(found, "scratch") - there)
    frames = {need.key: need for found in needs.values() for need in found if need.kind == "frames"}
    total = gigabytes(list(frames.values()), "frames")
    filled = _size(caches) / 1e9
    more = max(min(total, recipe.runtime.frame_cache_gb) - filled, 0)
    places = {
        "results": (workspace.path, results + scratch),
        "frames": (caches, more),
    }
    disks = {name: _disk(path) for name, (path, _) in places.items()}
    if disks["results"] == disks["frames"]:
        places = {"results and frames": (workspace.path, results + scratch + more)}
    for name, (path, wanted) in places.items():
        free = shutil.disk_usage(_existing(path)).free / 1e9
        if wanted > free:
            raise EmtError(
                f"the {name} of this run take about {wanted:,.1f} GB more ({results:,.1f} GB are "
                f"kept, {scratch:,.1f} GB are needed while training, {more:,.1f} GB are frames), "
                f"the disk has {free:,.1f} GB free",
                where=path,
                remedy="free some space, run it up to a stage with --until, keep fewer policies "
                "(finetune.keep), or name another disk in runtime.frame_cache",
            )


def _disk(path: Path) -> int:
    return _existing(path).stat().st_dev


def _existing(path: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _size(folder: Path) -> int:
    files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_size for file in files)
