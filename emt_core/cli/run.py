"""`emt run RECIPE`: whatever a recipe still lacks, in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emt_core.cli.options import RESULTS, RecipeArg, SetOpt
from emt_core.errors import raise_together
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.process import rank, speaks

if TYPE_CHECKING:
    from emt_core.run.stage import DiskNeed


def run(
    recipe: RecipeArg,
    workspace: Annotated[Path | None, typer.Option("--workspace", "-w", help=RESULTS)] = None,
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
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only say what would run, what it takes on disk, and what stands in its way.",
        ),
    ] = False,
    set_: SetOpt = None,
) -> None:
    """Run a recipe: whatever is missing, in order. Finished stages are found, interrupted ones
    resumed."""
    if dry_run:
        show_plan(recipe, workspace, set_, until=until)
        return
    if workspace is None:
        raise typer.BadParameter(
            "give a folder for the results, or --dry-run", param_hint="--workspace"
        )
    run_recipe(recipe, workspace, set_, until=until, start=start)


def run_recipe(
    recipe: Path,
    workspace: Path,
    set_: list[str] | None,
    *,
    until: str | None = None,
    start: str | None = None,
) -> dict[str, Any]:
    """Plan a recipe and run it as a job of the workspace; returns the artifacts by label.

    Raises EmtError before the first stage with everything that is known to stop a later one.
    """
    from emt_core.cli.ending import print_ending
    from emt_core.recipe.recipe import load_recipe
    from emt_core.run.checks import forecast
    from emt_core.run.job_folder import asked_for, enlisted
    from emt_core.run.plan import make_plan
    from emt_core.run.runner import missing_of, run_plan, wanted_of

    loaded = load_recipe(recipe, set_ or ())
    assert loaded.file is not None
    plan = make_plan(loaded, whole=False)
    space = Workspace.open(workspace, create=True)
    if not rank():
        missing = missing_of(wanted_of(plan, until), space)
        raise_together(forecast(missing, loaded, space).problems)
    asked = asked_for(space, loaded.file, until=until, start=start, overrides=set_ or ())
    with enlisted(space, asked):
        made = run_plan(plan, space, until=until, start=start)
    if speaks():
        print_ending(made)
    return made


def show_plan(
    recipe: Path, workspace: Path | None, set_: list[str] | None, *, until: str | None
) -> None:
    """Print what a run would do. Reads metadata; runs nothing, loads no model, writes nothing.

    Raises EmtError with everything that stands in its way.
    """
    from emt_core.recipe.recipe import load_recipe
    from emt_core.run.checks import forecast
    from emt_core.run.plan import make_plan
    from emt_core.run.runner import missing_of, wanted_of

    loaded = load_recipe(recipe, set_ or ())
    wanted = wanted_of(make_plan(loaded, whole=False), until)
    space = Workspace(workspace) if workspace else None
    missing = missing_of(wanted, space) if space else wanted
    found = forecast(missing, loaded, space)
    print(f"{loaded.name}: {len(missing)} of {len(wanted)} to make (a dry run: nothing is written)")
    for one in missing:
        print(f"  {one.label:<32}{takes(found.needs.get(one.label, []))}".rstrip())
    if found.needs:
        print(
            f"together {found.results:,.2f} GB that are kept, {found.scratch:,.2f} GB more while "
            f"training, {found.frames:,.2f} GB of frames (bound {loaded.runtime.frame_cache_gb:g} "
            "GB)"
        )
    raise_together(found.problems)
    print("nothing stands in the way, as far as can be told before it runs")


def takes(needs: list[DiskNeed]) -> str:
    """`4 policies 17.0 GB, checkpoints 51.0 GB (while it runs), ...`"""
    notes = {"scratch": " (while it runs)", "frames": " (frame cache)", "result": ""}
    sizes = [f"{n.bytes / 1e9:,.2f} GB" if n.bytes is not None else "size unknown" for n in needs]
    parts = zip(needs, sizes, strict=True)
    return ", ".join(f"{need.what} {size}{notes[need.kind]}" for need, size in parts)
