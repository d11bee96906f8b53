"""The state of every instance of a recipe in a workspace, read from disk."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from emt_core.flow import STAGES
from emt_core.run.plan import Instance, Plan, stage_module
from emt_core.workspace.artifact import Artifact, Workspace, read_json, read_json_if_there
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

    stale_key: str | None = None
    """The artifact that was current before, where the state is stale."""

    why: str = ""
    """What changed since, where the state is stale."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_status(plan: Plan, workspace: Workspace) -> list[InstanceStatus]:
    """One status per instance, in plan order."""
    state_file = workspace.path / "state" / f"{plan.recipe.name}.json"
    known = read_json(state_file) if state_file.exists() else {}
    return [_status(instance, workspace, known) for instance in plan.instances]


def _status(instance: Instance, workspace: Workspace, known: dict[str, str]) -> InstanceStatus:
    facts: dict[str, Any] = {
        "label": instance.label,
        "stage": instance.stage,
        "key": instance.key,
        "parents": tuple(parent.label for parent in instance.parents.values()),
        "labels": tuple(instance.labels),
    }
    artifact = workspace.find(instance.stage, instance.key)
    if artifact is not None:
        manifest = artifact.manifest
        return InstanceStatus(
            state="done",
            **facts,
            **{n: manifest[n] for n in ("rows", "seconds", "peak_memory_mb", "finished")},
        )
    building = workspace.building(instance.stage, instance.key)
    progress = read_json_if_there(building / "progress.json")
    if workspace.is_locked(instance.stage, instance.key):
        return InstanceStatus(state="running", progress=progress, **facts)
    failure = read_json_if_there(building / "failure.json")
    if failure is not None:
        return InstanceStatus(
            state="failed", message=failure["message"], progress=progress, **facts
        )
    if building.exists():
        return InstanceStatus(state="interrupted", progress=progress, **facts)
    earlier = known.get(instance.label)
    if earlier is not None and earlier != instance.key:
        before = workspace.find(instance.stage, earlier)
        if before is not None:
            return InstanceStatus(
                state="stale", stale_key=earlier, why=_what_changed(instance, before), **facts
            )
    return InstanceStatus(state="missing", **facts)


def _what_changed(instance: Instance, before: Artifact) -> str:
    """Why the artifact that was current no longer is: its settings, a parent, its inputs, or the stage itself."""
    manifest = before.manifest
    reasons = []
    config = instance.config.model_dump(mode="json")
    changed = [
        name for name, value in config.items() if manifest["config"].get(name, value) != value
    ]
    if changed:
        reasons.append(f"{', '.join(changed)} changed")
    parents = {name: parent.key for name, parent in instance.parents.items()}
    other = [
        parent.label
        for name, parent in instance.parents.items()
        if manifest["parents"].get(name) != parent.key
    ]
    other += [f"{name} (no longer a parent)" for name in manifest["parents"] if name not in parents]
    if other:
        reasons.append(f"{', '.join(other)} changed")
    if manifest["identity"] != instance.identity and not changed:
        reasons.append("its input files changed")
    if manifest["version"] != stage_module(instance.stage).VERSION:
        reasons.append("this version of the program makes it differently")
    return "; ".join(reasons) or "its settings changed"


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """One sentence and, where something can be launched, what its button says and how far it runs."""

    kind: Literal["wait", "mend", "resume", "renew", "run", "look"]
    label: str
    """The instance it is about; empty where all is done and nothing was evaluated."""

    sentence: str
    button: str = ""


def next_step(states: Sequence[InstanceStatus], coming: Collection[str] = ()) -> NextStep:
    """What to do next: failures first, then running, queued, interrupted, stale and missing stages.

    coming: keys that a running job has not come to yet, so nobody has to launch them.
    """
    by_state = {
        state: [s for s in states if s.state == state and s.key not in coming]
        for state in ("failed", "running", "interrupted", "stale", "missing")
    }
    if by_state["failed"]:
        first = by_state["failed"][0]
        return NextStep(
            kind="mend",
            label=first.label,
            sentence=f"{first.label} failed: {_first_line(first.message)} "
            "Fix the cause and run it again.",
            button="Run again",
        )
    if by_state["running"]:
        running = [s.label for s in by_state["running"]]
        return NextStep(
            kind="wait",
            label=running[0],
            sentence=f"{and_list(running)} {'is' if len(running) == 1 else 'are'} running.",
        )
    on_their_way = [s.label for s in states if s.key in coming and s.state != "done"]
    if on_their_way:
        return NextStep(
            kind="wait",
            label=on_their_way[0],
            sentence=f"{and_list(on_their_way[:4])} will run next, in a job that is running.",
        )
    if by_state["interrupted"]:
        first = by_state["interrupted"][0]
        how_far = ""
        if first.progress and first.progress["total"]:
            how_far = f" at {first.progress['done']:,} of {first.progress['total']:,} {first.progress['unit']}"
        return NextStep(
            kind="resume",
            label=first.label,
            sentence=f"{first.label} was stopped{how_far}; resuming continues from there.",
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
        missing = by_state["missing"]
        nothing_yet = len(missing) == len(states)
        first = missing[0]
        return NextStep(
            kind="run",
            label=first.label,
            sentence=f"{'Nothing has run yet. First' if nothing_yet else 'Next'}: {first.label} "
            f"({STAGES[first.stage].does.partition(':')[0]}).",
            button="Run all stages" if nothing_yet else "Run what is missing",
        )
    evaluated = next((s.label for s in states if s.stage == "evaluate"), "")
    if evaluated:
        return NextStep(
            kind="look",
            label=evaluated,
            sentence="All stages are up to date. Next: see the results or present them.",
        )
    return NextStep(
        kind="look",
        label="",
        sentence="All stages are up to date. Next: tune the selection or browse it.",
    )


def _first_line(message: str) -> str:
    line = (message.splitlines() or [""])[0].strip()
    return line if line.endswith((".", "?")) or not line else line + "."
