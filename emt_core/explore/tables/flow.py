"""The boxes and arrows of the flow's picture, from the states of a recipe's instances.

Instances of an experiment (arms x seeds) share a box for each name in the recipe; a stage with many
names has one box. Stages that the recipe lacks are there too, dimmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from emt_core.explore import numbers
from emt_core.flow import FLOW, STAGES
from emt_core.run.status import MEANING, InstanceStatus
from emt_core.workspace.progress import duration

MOST_OF_A_STAGE = 5
WORST_FIRST = ("failed", "running", "interrupted", "stale", "missing", "done")


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The instances of one box; none where the recipe lacks the stage."""

    id: str
    stage: str
    members: tuple[InstanceStatus, ...] = ()

    @property
    def state(self) -> str:
        if not self.members:
            return "absent"
        found = {member.state for member in self.members}
        return next(state for state in WORST_FIRST if state in found)


def base_label(label: str) -> str:
    """`finetune.demo@random/0` -> `finetune.demo`: the label without arm and seed."""
    return label.partition("@")[0]


def folds_of(states: Sequence[InstanceStatus]) -> list[Fold]:
    """A Fold per box, in the order of the flow."""
    found = []
    for stage in FLOW:
        mine = [state for state in states if state.stage == stage.name]
        names: dict[str, list[InstanceStatus]] = {}
        for state in mine:
            names.setdefault(base_label(state.label), []).append(state)
        if not mine:
            found.append(Fold(id=stage.name, stage=stage.name))
        elif len(names) > MOST_OF_A_STAGE:
            found.append(Fold(id=f"{stage.name}@", stage=stage.name, members=tuple(mine)))
        else:
            for name, group in names.items():
                found.append(Fold(id=name, stage=stage.name, members=tuple(group)))
    return found


def boxes_of(folds: Iterable[Fold], headlines: Mapping[str, str]) -> list[Box]:
    """headlines: instance label -> headline number (headline.py)."""
    columns = stage_columns()
    return [
        Box(
            id=fold.id,
            title=fold.stage,
            state=fold.state,
            column=columns[fold.stage],
            lines=_lines(fold, headlines),
            hover=_hover(fold, headlines),
        )
        for fold in folds
    ]


def edges_of(folds: Sequence[Fold]) -> list[tuple[str, str]]:
    """Arrows (parent, box), without those that a longer path implies."""
    home = {
        label: fold.id
        for fold in folds
        for member in fold.members
        for label in (member.label, *member.labels)
    }
    first_of = {
        stage: next((fold.id for fold in folds if fold.stage == stage), None) for stage in STAGES
    }
    direct: dict[str, set[str]] = {}
    for fold in folds:
        parents = {home[p] for member in fold.members for p in member.parents if p in home}
        if not fold.members:
            parents = {found for stage in STAGES[fold.stage].feeders if (found := first_of[stage])}
        direct[fold.id] = parents - {fold.id}
    ancestors: dict[str, set[str]] = {}
    for fold in folds:  # parents come first
        ancestors[fold.id] = set().union(*({p} | ancestors.get(p, set()) for p in direct[fold.id]))
    return [
        (parent, box)
        for box, parents in direct.items()
        for parent in sorted(parents)
        if not any(parent in ancestors.get(other, ()) for other in parents - {parent})
    ]


def stage_columns() -> dict[str, int]:
    """Stage -> column: its longest path; a stage without parents is just before its first child."""
    depth: dict[str, int] = {}
    for stage in FLOW:
        depth[stage.name] = 1 + max((depth[parent] for parent in stage.feeders), default=-1)
    for stage in FLOW:
        takers = [depth[other.name] for other in FLOW if stage.name in other.feeders]
        if not stage.feeders and takers:
            depth[stage.name] = min(takers) - 1
    return depth


def _lines(fold: Fold, headlines: Mapping[str, str]) -> tuple[str, ...]:
    if not fold.members:
        return ("not in the recipe",)
    name = fold.id.partition(".")[2]
    named = (name,) if name else ()
    if len(fold.members) > 1:
        done = sum(member.state == "done" for member in fold.members)
        return (*named, f"{done} of {len(fold.members)} done")
    member = next(iter(fold.members))
    if member.state == "done":
        what = headlines.get(member.label) or f"{numbers.short(member.rows)} rows"
        return (*named, *what.split(", "))
    return (*named, member.state)


def _hover(fold: Fold, headlines: Mapping[str, str]) -> tuple[str, ...]:
    does = STAGES[fold.stage].does
    if not fold.members:
        return (does, "not in this recipe: click to see how to add it")
    if len(fold.members) > 1:
        counts = {state: sum(m.state == state for m in fold.members) for state in WORST_FIRST}
        return (does, ", ".join(f"{count} {state}" for state, count in counts.items() if count))
    member = next(iter(fold.members))
    meaning = MEANING[member.state]
    state = member.state if meaning == member.state else f"{member.state}: {meaning}"
    facts = [does, state]
    if member.why:
        facts.append(f"why: {member.why}")
    if member.rows is not None and member.seconds is not None:
        facts.append(f"{numbers.whole(member.rows)} rows in {duration(member.seconds)}")
    if headlines.get(member.label):
        facts.append(headlines[member.label])
    if member.parents:
        facts.append(f"from {', '.join(member.parents)}")
    return (*facts, f"key {member.key}")


@dataclass(frozen=True, kw_only=True)
class Box:
    """One box. column: from the left. lines: below the title. hover: lines of plain text."""

    id: str
    title: str
    state: str
    column: int
    lines: tuple[str, ...] = ()
    hover: tuple[str, ...] = ()
