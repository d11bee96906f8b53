"""What can be known before anything heavy starts: mistakes, what is missing, room on the disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from emt_core.errors import EmtError, EmtErrors, raise_together
from emt_core.recipe.recipe import Recipe
from emt_core.run.device import choose_device
from emt_core.run.engines.training import ranks_of
from emt_core.run.plan import Instance
from emt_core.run.requirements import needs_gpu, require
from emt_core.run.stage import DiskNeed, frame_folder, stage_module
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.process import world_size


@dataclass(frozen=True)
class Forecast:
    """Of instances that are not there yet: what each takes on disk, and every known problem."""

    needs: dict[str, list[DiskNeed]]
    """By the instance's label; only those that say it."""

    problems: list[EmtError]

    @property
    def frames(self) -> float:
        """GB of all frame caches, each once."""
        every = {n.key: n for found in self.needs.values() for n in found if n.kind == "frames"}
        return gigabytes(list(every.values()), "frames")

    @property
    def results(self) -> float:
        """GB that stay."""
        return sum(gigabytes(found, "result") for found in self.needs.values())

    @property
    def scratch(self) -> float:
        """GB of the stage that needs the most while it runs."""
        return max((gigabytes(found, "scratch") for found in self.needs.values()), default=0)


def forecast(
    instances: Sequence[Instance], recipe: Recipe, workspace: Workspace | None
) -> Forecast:
    """workspace None: there is none yet; the disks' room is not looked at."""
    problems: list[EmtError] = []
    mistakes: dict[tuple[str, str, str], list[str]] = {}
    needs: dict[str, list[DiskNeed]] = {}
    for one in instances:
        module = stage_module(one.stage)
        if one.problem:
            problems.append(one.problem)
            continue
        try:
            if hasattr(module, "check"):
                module.check(one, recipe.base)
            if hasattr(module, "disk"):
                needs[one.label] = module.disk(one, recipe.base)
        except EmtError as error:
            mistakes.setdefault((error.what, error.where, error.remedy), []).append(one.label)
    known = {
        (part.what, part.remedy)
        for problem in problems
        for part in (problem.problems if isinstance(problem, EmtErrors) else (problem,))
    }
    problems += [
        _named(mistake, labels)
        for mistake, labels in mistakes.items()
        if (mistake[0], mistake[2]) not in known
    ]
    found = Forecast(needs, problems)
    for check in (_check_device, _check_trackers, _check_requirements, _check_sharding):
        try:
            check(instances, recipe)
        except EmtError as error:
            problems.append(error)
    try:
        _check_bound(needs, recipe)
        if workspace is not None:
            _check_room(instances, found, recipe, workspace)
    except EmtError as error:
        problems.append(error)
    return found


def _check_device(instances: Sequence[Instance], recipe: Recipe) -> None:
    """Raises EmtError where models have to run on a device that is not there. Looking for one
    loads torch, so it is looked for only where the recipe names one."""
    named = recipe.runtime.device not in ("auto", "cpu")
    users = [one.label for one in instances if getattr(stage_module(one.stage), "DEVICE", False)]
    if named and users:
        try:
            choose_device(recipe.runtime.device)
        except EmtError as error:
            raise _named((error.what, "runtime.device", error.remedy), users) from error


def _check_trackers(instances: Sequence[Instance], recipe: Recipe) -> None:
    """Raises EmtError where steps have to go to a tracker that is not installed."""
    used = any(getattr(stage_module(one.stage), "TRACKED", False) for one in instances)
    missing = [name for name in recipe.runtime.report_to if used and find_spec(name) is None]
    if missing:
        raise EmtError(
            f"{' and '.join(missing)} {'are' if missing[1:] else 'is'} not installed",
            where="runtime.report_to",
            remedy='pip install "embodied-midtrain[tracking]", or leave the name out',
        )


def _check_requirements(instances: Sequence[Instance], recipe: Recipe) -> None:
    """Raises EmtErrors for settings of training whose package or GPU is missing."""
    mistakes: dict[tuple[str, str, str], list[str]] = {}
    for one in instances:
        for field in ("optimizer", "attn_implementation", "update"):
            word = getattr(one.config, field, "")
            try:
                require(word, where=field, gpu=needs_gpu(word) and _has_gpu(one, recipe))
            except EmtError as error:
                mistakes.setdefault((error.what, error.where, error.remedy), []).append(one.label)
    raise_together([_named(mistake, labels) for mistake, labels in mistakes.items()])


def _check_sharding(instances: Sequence[Instance], recipe: Recipe) -> None:
    """Raises EmtError where a training has to be sharded and cannot be."""
    word = recipe.runtime.sharding
    trained = [one for one in instances if getattr(stage_module(one.stage), "DISTRIBUTED", False)]
    if word == "none" or not trained:
        return
    where = f"runtime.sharding: {word}"
    require(word, where=where, gpu=needs_gpu(word) and _has_gpu(trained[0], recipe))
    if world_size() == 1 and ranks_of(trained[0].stage, recipe) <= 1:
        raise EmtError(
            "one process has nothing to shard",
            where=where,
            remedy="set runtime.training_processes, or runtime.sharding: none",
        )


def _has_gpu(instance: Instance, recipe: Recipe) -> bool:
    """Whether a stage computes on a GPU: of this machine, or of the engine's workers."""
    runtime = recipe.runtime
    here = getattr(stage_module(instance.stage), "DISTRIBUTED", False) and runtime.engine == "ray"
    if runtime.workers_have_gpus and not here:
        return True
    with suppress(EmtError):  # a device that is not there is told by itself
        return choose_device(runtime.device).type == "cuda"
    return False


def _named(mistake: tuple[str, str, str], labels: Sequence[str]) -> EmtError:
    """One problem of several arms is told once, with the first one's label."""
    what, where, remedy = mistake
    more = f" and {len(labels) - 1} more" if labels[1:] else ""
    return EmtError(what, where=", ".join(filter(None, (labels[0] + more, where))), remedy=remedy)


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
    instances: Sequence[Instance], found: Forecast, recipe: Recipe, workspace: Workspace
) -> None:
    """What interrupted runs have written already is not asked for again."""
    caches = frame_folder(recipe.runtime, workspace.path)
    asking = [one for one in instances if one.label in found.needs]
    started = sum(_size(workspace.building(one.stage, one.key)) for one in asking) / 1e9
    kept = max(found.results + found.scratch - started, 0)
    frames = max(min(found.frames, recipe.runtime.frame_cache_gb) - _size(caches) / 1e9, 0)
    places = {"results": (workspace.path, kept), "frames": (caches, frames)}
    if _disk(workspace.path) == _disk(caches):
        places = {"results and frames": (workspace.path, kept + frames)}
    problems = []
    for name, (path, wanted) in places.items():
        free = shutil.disk_usage(_existing(path)).free / 1e9
        if wanted > free:
            problems.append(
                EmtError(
                    f"the {name} of this run take about {wanted:,.1f} GB more "
                    f"({found.results:,.1f} GB are kept, {found.scratch:,.1f} GB are needed while "
                    f"training, {frames:,.1f} GB are frames), the disk has {free:,.1f} GB free",
                    where=path,
                    remedy="free some space, run it up to a stage with --until, keep fewer "
                    "policies (finetune.keep), or name another disk in runtime.frame_cache",
                )
            )
    raise_together(problems)


def _disk(path: Path) -> int:
    return _existing(path).stat().st_dev


def _existing(path: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _size(folder: Path) -> int:
    """Bytes below a folder; what another process removes meanwhile counts as nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(root) / name).lstat().st_size
    return total
