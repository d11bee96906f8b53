"""`emt run RECIPE`: whatever a recipe still lacks, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from emt_core.cli.options import RecipeArg, SetOpt, WorkspaceOpt
from emt_core.workspace.artifact import Workspace


def run(
    recipe: RecipeArg,
    workspace: WorkspaceOpt,
    until: Annotated[
        str | None,
        typer.Option(
            help="Stop after this stage (or one instance, e.g. select.quarter) and what it needs."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="Begin at this stage: everything before it must be there already."
        ),
    ] = None,
    set_: SetOpt = None,
) -> None:
    """Run a recipe: whatever is missing, in order. Finished stages are found, interrupted ones
    resumed."""
    run_recipe(recipe, workspace, set_, until=until, start=start)


def run_recipe(
    recipe: Path,
    workspace: Path,
    set_: list[str] | None,
    *,
    until: str | None = None,
    start: str | None = None,
) -> dict[str, Any]:
    """Plan a recipe and run it as a job of the workspace; returns the artifacts by label."""
    from emt_core.recipe.recipe import load_recipe
    from emt_core.run.job_folder import asked_for, enlisted
    from emt_core.run.plan import make_plan
    from emt_core.run.runner import run_plan

    loaded = load_recipe(recipe, set_ or ())
    assert loaded.file is not None
    plan = make_plan(loaded)
    space = Workspace.open(workspace, create=True)
    asked = asked_for(space, loaded.file, until=until, start=start, overrides=set_ or ())
    with enlisted(space, asked):
        return run_plan(plan, space, until=until, start=start)
