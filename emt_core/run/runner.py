"""Run what a plan still lacks: parents first, each artifact once, whoever asks and however often.

Under torchrun (`torchrun --nproc-per-node 8 -m emt_core.cli midtrain RECIPE --workspace W`) every
rank runs the same plan. Rank 0 locks, builds, commits and writes all records. For a stage that
trains on several devices (`DISTRIBUTED = True` in its file) the other ranks run the stage as well:
they read rank 0's folder under construction and never write there. For every other stage they wait
until rank 0 has committed it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from os.path import samestat
from pathlib import Path

from filelock import Timeout

from emt_core.errors import EmtError
from emt_core.flow import FLOW, STAGES
from emt_core.recipe.recipe import dump_recipe, load_recipe
from emt_core.run.engines.base import make_shards
from emt_core.run.engines.training import launch, ranks_of
from emt_core.run.meter import Meter, versions
from emt_core.run.plan import Instance, Plan
from emt_core.run.recipes import with_saved
from emt_core.run.stage import Context, stage_module
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.clock import make_newest
from emt_core.workspace.files import read_json_if_there, write_json, write_text
from emt_core.workspace.job_record import WorkState
from emt_core.workspace.job_record import current as current_job
from emt_core.workspace.machine_faults import machine_fault, machine_faults_told
from emt_core.workspace.process import rank
from emt_core.workspace.progress import Progress
from emt_core.workspace.table import Table

LOOK_EVERY_S = 0.2
"""How often a rank that waits looks whether rank 0 has committed."""


def run_plan(
    plan: Plan,
    workspace: Workspace,
    *,
    until: str | None = None,
    start: str | None = None,
    quiet: bool = False,
) -> dict[str, Artifact]:
    """Make every missing artifact of the plan. Returns them by label.

    until: a stage or an instance's label; nothing that it does not need is run.
    start: a stage; everything before it has to be there already (EmtError if not).
    """
    with machine_faults_told(workspace.path):
        return _run_plan(plan, workspace, until=until, start=start, quiet=quiet)


def _run_plan(
    plan: Plan, workspace: Workspace, *, until: str | None, start: str | None, quiet: bool
) -> dict[str, Artifact]:
    wanted = wanted_of(plan, until)
    remember(plan, workspace)
    if (job := current_job()) is not None:
        job.planned(wanted)
    made: dict[str, Artifact] = {}
    for instance in wanted:
        before_start = start is not None and _index(instance.stage) < _index(start)
        if before_start and workspace.find(instance.stage, instance.key) is None:
            raise EmtError(
                f"--from {start}: {instance.label} is not there yet",
                remedy=f"run without --from, or --from {instance.stage}",
            )
        artifact = run_instance(instance, workspace, plan, quiet=quiet)
        made.update(dict.fromkeys(instance.labels, artifact))
    return made


def _index(stage: str) -> int:
    if stage not in STAGES:
        raise EmtError(f"there is no stage {stage!r}", remedy=f"stages: {', '.join(STAGES)}")
    return [s.name for s in FLOW].index(stage)


def wanted_of(plan: Plan, until: str | None) -> list[Instance]:
    """Instances to run: all, or those of a stage (or one label) with everything that feeds them."""
    if until is None:
        return list(plan.instances)
    waiting = [i for i in plan.instances if until in i.labels] or plan.of_stage(until)
    if not waiting:
        waiting = [plan.get(until)]
    needed: set[tuple[str, str]] = set()
    while waiting:
        instance = waiting.pop()
        needed.add((instance.stage, instance.key))
        waiting.extend(instance.parents.values())
    return [i for i in plan.instances if (i.stage, i.key) in needed]


def missing_of(instances: Sequence[Instance], workspace: Workspace) -> list[Instance]:
    """Those without a finished artifact."""
    return [i for i in instances if i.problem or workspace.find(i.stage, i.key) is None]


def remember(plan: Plan, workspace: Workspace) -> None:
    """Copy the recipe into the workspace, so that status and the app know what ran there.

    A page may change the copy at any time, also since this plan was read: what pages saved into
    the copy stays, and overrides are laid over the copy as it is now.
    """
    workspace.check_writable()
    if rank():
        return
    name = plan.recipe.name
    with workspace.lock("state", f"recipe-{name}"):
        copy = workspace.recipe_file(name)
        if plan.recipe.file != copy:
            write_text(copy, dump_recipe(with_saved(plan.recipe, workspace)))
        elif plan.recipe.overrides:
            write_text(copy, dump_recipe(load_recipe(copy, plan.recipe.overrides).raw))
        make_newest(copy)  # the recipe that ran last leads the app's list


def record_state(plan_name: str, instance: Instance, workspace: Workspace) -> None:
    """Note under which key an instance was last finished: another key later shows it as stale."""
    path = workspace.path / "state" / f"{plan_name}.json"
    with workspace.lock("state", plan_name):
        state = read_json_if_there(path) or {}
        state.update(dict.fromkeys(instance.labels, instance.key))
        write_json(path, state)


def run_instance(
    instance: Instance, workspace: Workspace, plan: Plan, *, quiet: bool = False
) -> Artifact:
    """One artifact: found, or waited for (another process builds it), or built and committed."""
    workspace.check_writable()
    if rank():
        return follow(instance, workspace, plan)
    artifact = workspace.find(instance.stage, instance.key)
    if artifact is not None:
        _note(instance, "found")
        record_state(plan.recipe.name, instance, workspace)
        return artifact
    building = workspace.building(instance.stage, instance.key)
    progress = Progress(label=instance.label, folder=building, quiet=quiet)
    if ranks := ranks_of(instance.stage, plan.recipe):
        return _launched(instance, workspace, plan, ranks, progress)
    with _announced_lock(instance, workspace, progress):
        artifact = workspace.find(instance.stage, instance.key)
        if artifact is not None:
            _note(instance, "found")
        else:
            _note(instance, "building")
            artifact = _build(instance, workspace, plan, progress)
            _note(instance, "made")
    record_state(plan.recipe.name, instance, workspace)
    return artifact


def _launched(
    instance: Instance, workspace: Workspace, plan: Plan, ranks: int, progress: Progress
) -> Artifact:
    """One artifact, made by processes that are launched for it; rank 0 of them locks it."""
    _note(instance, "building")
    building = workspace.building(instance.stage, instance.key)
    try:
        launch(plan.recipe, instance.label, building, ranks, workspace, progress)
        artifact = workspace.find(instance.stage, instance.key)
        if artifact is None:
            raise EmtError(
                f"the launched processes did not make {instance.label} {instance.key}",
                where=plan.recipe.file,
                remedy="it was changed while it ran; run it again",
            )
    except EmtError:
        _note(instance, "failed")
        raise
    _note(instance, "made")
    record_state(plan.recipe.name, instance, workspace)
    return artifact


def _note(instance: Instance, state: WorkState) -> None:
    if (job := current_job()) is not None:
        job.note(instance, state)


@contextmanager
def _announced_lock(instance: Instance, workspace: Workspace, progress: Progress) -> Iterator[None]:
    """Hold the lock of an artifact; where another process has it, say so and wait."""
    try:
        with workspace.lock(instance.stage, instance.key, wait=False):
            yield
            return
    except Timeout:
        progress.say("another process is building it; waiting")
        _note(instance, "waiting")
    with workspace.lock(instance.stage, instance.key):
        yield


def _build(instance: Instance, workspace: Workspace, plan: Plan, progress: Progress) -> Artifact:
    building = workspace.building(instance.stage, instance.key)
    final = workspace.folder(instance.stage, instance.key)
    if final.exists():  # the rename at the end would fail, after all the work
        raise EmtError(
            "this folder has an artifact's name and no manifest",
            where=final,
            remedy="move it away and run again",
        )
    if (committed := workspace.finish_commit(instance.stage, instance.key)) is not None:
        progress.say(f"was made before; its interrupted commit is finished -> {instance.key}")
        return committed
    (building / "data").mkdir(parents=True, exist_ok=True)
    begun = building.stat()
    (building / "failure.json").unlink(missing_ok=True)
    context = _context(instance, workspace, plan, progress)
    started = time.time()
    with Meter(building / "elapsed.json") as meter:
        try:
            make_shards(instance.stage, instance.key, instance.label, context)
            outcome = stage_module(instance.stage).run(context)
            for table in context.out.glob("*.lance"):
                Table(table).finish()
        except Exception as error:
            _note(instance, "failed")
            if not _is_still(building, begun):  # whatever failed, it is why
                raise _taken_away(building) from error
            told = machine_fault(error, workspace.path) or error
            failure = {"message": str(told) or type(told).__name__, "at": time.time()}
            with suppress(OSError):  # a full disk: the error itself is what counts
                write_json(building / "failure.json", failure)
            raise
    manifest = {
        "stage": instance.stage,
        "key": instance.key,
        "version": stage_module(instance.stage).VERSION,
        "recipe": plan.recipe.name,
        "labels": instance.labels,
        "config": instance.config.model_dump(mode="json"),
        "identity": instance.identity,
        "base": str(plan.recipe.base),
        "parents": {name: parent.key for name, parent in instance.parents.items()},
        "versions": versions(),
        "seed": getattr(instance.config, "seed", None),
        "started": started,
        "finished": time.time(),
        "seconds": round(meter.seconds, 3),
        "peak_memory_mb": round(meter.peak_mb),
        "memory_added_mb": round(meter.added_mb),
        "rows": outcome.rows,
        "metrics": dict(outcome.metrics),
    }
    if not _is_still(building, begun):  # what the stage wrote before is not in this one
        raise _taken_away(building)
    artifact = workspace.commit(instance.stage, instance.key, manifest, outcome.scratch)
    cost = f"{meter.seconds:.1f} s, {meter.peak_mb:,.0f} MB at most"
    progress.say(f"done: {outcome.rows:,} rows, {cost} -> {instance.key}")
    return artifact


def _is_still(folder: Path, begun: os.stat_result) -> bool:
    """Whether this folder is the one that was there before: another may have its name now."""
    try:
        return samestat(begun, folder.stat())
    except OSError as error:  # it cannot be entered any more: that is told by its own error
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)


def _taken_away(building: Path) -> EmtError:
    return EmtError(
        "the folder under construction was taken away while the stage ran",
        where=building,
        remedy="bring it back (is its disk mounted?) and run the same command again",
    )


def _context(instance: Instance, workspace: Workspace, plan: Plan, progress: Progress) -> Context:
    parents = {}
    for name, parent in instance.parents.items():
        artifact = workspace.find(parent.stage, parent.key)
        if artifact is None:
            raise EmtError(
                f"{instance.label} needs {parent.label}, which is not there",
                remedy=f"run `emt {parent.stage}` first",
            )
        parents[name] = artifact
    return Context(
        config=instance.config,
        identity=instance.identity,
        base=plan.recipe.base,
        parents=parents,
        out=workspace.building(instance.stage, instance.key) / "data",
        runtime=plan.recipe.runtime,
        progress=progress,
        workspace=workspace,
    )


def follow(instance: Instance, workspace: Workspace, plan: Plan) -> Artifact:
    """On rank 1 and up: help to build one artifact, or wait for it.

    Nobody has to watch rank 0 here: torchrun ends all ranks when one fails.
    """
    module = stage_module(instance.stage)
    helped = not getattr(module, "DISTRIBUTED", False)
    building = workspace.building(instance.stage, instance.key)
    while (artifact := workspace.find(instance.stage, instance.key)) is None:
        # with a manifest there is nothing to help with: rank 0 only finishes an interrupted commit
        committing = (building / "manifest.json").exists()
        if not helped and not committing and (building / "data").is_dir():
            progress = Progress(label=instance.label, quiet=True)
            module.run(_context(instance, workspace, plan, progress))
            helped = True
        time.sleep(LOOK_EVERY_S)
    return artifact
