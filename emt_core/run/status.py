"""The state of every instance of a recipe in a workspace, read from the files there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from emt_core.flow import STAGES
from emt_core.run.engines.base import worker_states
from emt_core.run.plan import Instance, Plan
from emt_core.run.stage import stage_module
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import read_json_if_there
from emt_core.workspace.words import and_list

State = Literal["missing", "running", "interrupted", "failed", "stale", "done"]

MEANING: dict[State, str] = {
    "missing": "not run yet",
    "running": "running",
    "interrupted": "stopped; the next run continues from the last commit",
    "failed": "the last run failed",
    "stale": "out of date: the recipe, an input or a parent changed; the old result is kept",
    "done": "complete and up to date",
}


@dataclass(frozen=True, kw_only=True)
class InstanceStatus:
    label: str
    stage: str
    key: str
    state: State
    parents: tuple[str, ...]
    labels: tuple[str, ...] = ()
    """Every name the recipe has for it: equal work of several arms is one artifact."""

    rows: int | None = None
    seconds: float | None = None
    peak_memory_mb: int | None = None
    finished: float | None = None
    message: str = ""
    progress: dict[str, Any] | None = None
    """While running or interrupted: doing, done, total, unit, rate, seconds_left, at."""

    workers: list[dict[str, Any]] = field(default_factory=list)
    """While running: the state of each worker that makes its shards (run/engines/base.py)."""

    stale_key: str | None = None
    """The artifact that was current before, where the state is stale."""

    why: str = ""
    """What changed since, where the state is stale."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_status(plan: Plan, workspace: Workspace) -> list[InstanceStatus]:
    """One status per instance, in plan order."""
    known = read_json_if_there(workspace.path / "state" / f"{plan.recipe.name}.json") or {}
    return [_status(instance, workspace, known) for instance in plan.instances]


def _status(instance: Instance, workspace: Workspace, known: dict[str, str]) -> InstanceStatus:
    """known: the key that each label had when it last ran."""

    def status(state: State, **details: Any) -> InstanceStatus:
        return InstanceStatus(
            label=instance.label,
            stage=instance.stage,
            key=instance.key,
            state=state,
            parents=tuple(parent.label for parent in instance.parents.values()),
            labels=tuple(instance.labels),
            **details,
        )

    artifact = workspace.find(instance.stage, instance.key)
    if artifact is not None:
        shown = ("rows", "seconds", "peak_memory_mb", "finished")
        return status("done", **{name: artifact.manifest[name] for name in shown})
    building = workspace.building(instance.stage, instance.key)
    progress = read_json_if_there(building / "progress.json")
    if workspace.is_locked(instance.stage, instance.key):
        return status("running", progress=progress, workers=worker_states(building))
    failure = read_json_if_there(building / "failure.json")
    if failure is not None:
        return status("failed", message=failure["message"], progress=progress)
    if building.exists():
        return status("interrupted", progress=progress)
    earlier = known.get(instance.label, instance.key)
    before = workspace.find(instance.stage, earlier) if earlier != instance.key else None
    if before is not None:
        return status("stale", stale_key=earlier, why=_what_changed(instance, before))
    return status("missing", message=instance.problem.what if instance.problem else "")


def _what_changed(instance: Instance, before: Artifact) -> str:
    """Why an earlier artifact is out of date: settings, a parent, inputs, or the stage itself."""
    if instance.problem is not None:
        return instance.problem.what
    manifest = before.manifest
    config = instance.config.model_dump(mode="json")
    old = manifest["config"]
    settings = [name for name, value in config.items() if old.get(name, value) != value]
    parents = [
        parent.label
        for name, parent in instance.parents.items()
        if manifest["parents"].get(name) != parent.key
    ]
    gone = [name for name in manifest["parents"] if name not in instance.parents]
    parents += [f"{name} (no longer a parent)" for name in gone]
    reasons = [f"{', '.join(names)} changed" for names in (settings, parents) if names]
    if manifest["identity"] != instance.identity and not settings:
        reasons.append("its input files changed")
    if manifest["version"] != stage_module(instance.stage).VERSION:
        reasons.append("this version of the program makes it differently")
    return "; ".join(reasons) or "its settings changed"


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """One sentence and, where something can be launched, the text of its button."""

    kind: Literal["wait", "mend", "resume", "renew", "run", "look"]
    label: str
    """The instance it is about; empty where all is done and nothing was evaluated."""

    sentence: str
    button: str = ""


def next_step(states: Sequence[InstanceStatus], coming: Collection[str] = ()) -> NextStep:
    """What to do first: mend a failure, wait for what runs, resume, renew, run, or look.

    states: in plan order. coming: keys that a running job will make later; nobody has to launch
    them again.
    """
    by_state: dict[State, list[InstanceStatus]] = {state: [] for state in MEANING}
    for status in states:
        if status.key not in coming:
            by_state[status.state].append(status)
    if by_state["failed"]:
        first = by_state["failed"][0]
        error = _first_line(first.message)
        return NextStep(
            kind="mend",
            label=first.label,
            sentence=f"{first.label} failed: {error} Fix the cause and run it again.",
            button="Run again",
        )
    if by_state["running"]:
        running = [status.label for status in by_state["running"]]
        return NextStep(
            kind="wait",
            label=running[0],
            sentence=f"{and_list(running)} {'is' if len(running) == 1 else 'are'} running.",
        )
    waiting = [status.label for status in states if status.key in coming and status.state != "done"]
    if waiting:
        return NextStep(
            kind="wait",
            label=waiting[0],
            sentence=f"{and_list(waiting[:4])} will run next, in a job that is running.",
        )
    if by_state["interrupted"]:
        first = by_state["interrupted"][0]
        place = ""
        if (at := first.progress) and at["total"]:
            place = f" at {at['done']:,} of {at['total']:,} {at['unit']}"
        return NextStep(
            kind="resume",
            label=first.label,
            sentence=f"{first.label} was stopped{place}; resuming continues from there.",
            button="Resume",
        )
    if by_state["stale"]:
        first = by_state["stale"][0]
        later = len(by_state["stale"]) + len(by_state["missing"]) - 1
        also = f", and with it {later} later {'stage' if later == 1 else 'stages'}" if later else ""
        return NextStep(
            kind="renew",
            label=first.label,
            sentence=f"{first.label} is out of date ({first.why}){also}.",
            button="Bring up to date",
        )
    if by_state["missing"]:
        first = by_state["missing"][0]
        nothing_yet = len(by_state["missing"]) == len(states)
        begin = "Nothing has run yet. First" if nothing_yet else "Next"
        does = STAGES[first.stage].does.partition(":")[0]
        return NextStep(
            kind="run",
            label=first.label,
            sentence=f"{begin}: {first.label} ({does}).",
            button="Run all stages" if nothing_yet else "Run what is missing",
        )
    evaluated = next((status.label for status in states if status.stage == "evaluate"), "")
    advice = "see the results or present them" if evaluated else "tune the selection or browse it"
    return NextStep(
        kind="look", label=evaluated, sentence=f"All stages are up to date. Next: {advice}."
    )


def _first_line(message: str) -> str:
    line = (message.splitlines() or [""])[0].strip()
    return line if line.endswith((".", "?")) or not line else line + "."
