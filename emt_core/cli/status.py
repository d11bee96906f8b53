"""`emt status`: the state of every instance of a recipe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from emt_core.cli.options import ThereOpt, out
from emt_core.errors import EmtError
from emt_core.workspace.artifact import Workspace

COLORS = {
    "done": "green",
    "running": "cyan",
    "stale": "yellow",
    "failed": "red",
    "interrupted": "yellow",
}


def status(
    workspace: ThereOpt,
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe; default: all that ran in this workspace.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """What is done, running, stale, failed or missing, and what each artifact holds."""
    from emt_core.cli.ending import print_ending
    from emt_core.recipe.recipe import load_recipe
    from emt_core.run.plan import make_plan
    from emt_core.run.status import plan_status

    space = Workspace.open(workspace)
    recipes = [recipe] if recipe else sorted((space.path / "recipes").glob("*.yaml"))
    if not recipes:
        raise EmtError(
            "no recipe ran in this workspace yet",
            where=space.path,
            remedy="emt run RECIPE --workspace ...",
        )
    found = {
        path.stem: plan_status(make_plan(load_recipe(path), whole=False), space) for path in recipes
    }
    if as_json:
        print(
            json.dumps(
                {name: [s.as_dict() for s in states] for name, states in found.items()}, indent=1
            )
        )
        return
    for name, states in found.items():
        out.print(_status_table(name, states))
        found_there = {label: space.find(s.stage, s.key) for s in states for label in s.labels}
        print_ending({label: one for label, one in found_there.items() if one is not None})


def _status_table(name: str, states: Sequence[Any]) -> Table:
    from emt_core.run.engines.base import in_one_line
    from emt_core.workspace.progress import duration

    table = Table(title=f"recipe {name}", title_justify="left", header_style="bold")
    for column in ("instance", "state", "rows", "time", "memory", "key", ""):
        numeric = column in ("rows", "time", "memory")
        table.add_column(column, justify="right" if numeric else "left", no_wrap=column != "")
    for state in states:
        color = COLORS.get(state.state, "dim")
        note = state.message.splitlines()[0] if state.message else ""
        if state.progress and state.state in ("running", "interrupted"):
            doing = state.progress
            note = f"{doing['doing']}: {doing['done']:,}" + (
                f"/{doing['total']:,}" if doing["total"] else ""
            )
            if state.state == "running" and doing["seconds_left"] is not None:
                note += f", {duration(doing['seconds_left'])} left"
            if state.workers:
                note += f"; {in_one_line(state.workers)}"
        table.add_row(
            state.label,
            f"[{color}]{state.state}[/]",
            f"{state.rows:,}" if state.rows is not None else "",
            duration(state.seconds) if state.seconds is not None else "",
            f"{state.peak_memory_mb:,} MB" if state.peak_memory_mb is not None else "",
            state.key[:8],
            note.replace("[", r"\["),
        )
    return table
