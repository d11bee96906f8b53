"""What to do next with a recipe, in one sentence, from the state of its instances."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from emt_core.flow import STAGES
from emt_core.status import InstanceStatus


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """One sentence and, where something can be launched, what its button says and how far it runs."""

    kind: Literal["wait", "mend", "resume", "renew", "run", "look"]
    label: str
    """The instance it is about; empty where all is done and nothing was evaluated."""

    sentence: str
    button: str = ""


def next_step(states: Sequence[InstanceStatus], coming: Collection[str] = ()) -> NextStep:
    """The first thing that matters, in plan order: a failure before what runs, what runs before what is missing.

    coming: keys that a job at work has not come to yet; nobody has to launch them again.
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
            sentence=f"{first.label} ended in an error: {_first_line(first.message)} Mend the cause and run it again.",
            button="Run again",
        )
    if by_state["running"]:
        running = [s.label for s in by_state["running"]]
        return NextStep(kind="wait", label=running[0], sentence=f"{_and(running)} is being made. Nothing to do.")
    on_their_way = [s.label for s in states if s.key in coming and s.state != "done"]
    if on_their_way:
        return NextStep(
            kind="wait",
            label=on_their_way[0],
            sentence=f"{_and(on_their_way[:4])} will be made by a job that runs now.",
        )
    if by_state["interrupted"]:
        first = by_state["interrupted"][0]
        how_far = ""
        if first.progress and first.progress["total"]:
            how_far = f" at {first.progress['done']:,} of {first.progress['total']:,} {first.progress['unit']}"
        return NextStep(
            kind="resume",
            label=first.label,
            sentence=f"{first.label} was stopped{how_far}; running it again goes on from there.",
            button="Go on",
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
            sentence=("Nothing has run yet: start with" if nothing_yet else "Next comes")
            + f" {first.label}: {_first_line(STAGES[first.stage].does)}",
            button="Run all stages" if nothing_yet else "Run what is missing",
        )
    evaluated = next((s.label for s in states if s.stage == "evaluate"), "")
    if evaluated:
        return NextStep(
            kind="look",
            label=evaluated,
            sentence="Everything is up to date. See how the policies did, or put the story together for others.",
        )
    return NextStep(
        kind="look",
        label="",
        sentence="Everything is up to date. Tune the selection by eye, or browse what was selected.",
    )


def _first_line(message: str) -> str:
    line = (message.splitlines() or [""])[0].strip()
    return line if line.endswith((".", "?")) or not line else line + "."


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
