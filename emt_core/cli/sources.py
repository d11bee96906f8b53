"""`emt sources RECIPE`: the sources as their readers see them, before any model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emt_core.cli.options import RecipeArg, SetOpt, out
from emt_core.cli.run import run_recipe, takes
from emt_core.errors import EmtError
from emt_core.workspace.artifact import Workspace

if TYPE_CHECKING:
    from emt_core.recipe.recipe import Recipe


def sources(
    recipe: RecipeArg,
    workspace: Annotated[
        Path | None,
        typer.Option("--workspace", "-w", help="Also run the stage and keep its index here."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Look only at the first rows of each source.")
    ] = None,
    thumbnails: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Write a contact sheet of a few images per source into this folder.",
        ),
    ] = None,
    set_: SetOpt = None,
) -> None:
    """Look at all sources before any model is loaded: counts, rejects with reasons, sizes, a few
    thumbnails."""
    from emt_core.data.preflight import check, preflight, render
    from emt_core.recipe.recipe import load_recipe

    loaded = load_recipe(recipe, set_ or ())
    reports = []
    for instance in loaded.instances:
        if instance.stage == "sources":
            found = preflight(instance.config, loaded.base, thumbnails=thumbnails, limit=limit)  # type: ignore[arg-type]
            out.print(render(found))
            reports += found
    check(reports, loaded.base)
    _say_what_follows(loaded, workspace)
    if workspace is not None:
        run_recipe(recipe, workspace, set_, until="sources")


def _say_what_follows(recipe: Recipe, workspace: Path | None) -> None:
    """What later stages take on disk, and what is known to stop them."""
    from rich.text import Text

    from emt_core.run.checks import forecast
    from emt_core.run.plan import make_plan

    try:
        later = [i for i in make_plan(recipe, whole=False).instances if i.stage != "sources"]
        found = forecast(later, recipe, Workspace(workspace) if workspace else None)
    except EmtError as error:
        out.print(Text(f"later stages cannot be planned: {error.message()}", style="yellow"))
        return
    for label, needs in found.needs.items():
        out.print(Text(f"{label} will take: {takes(needs)}"))
    for problem in found.problems:
        out.print(Text(f"a later stage will stop: {problem.message()}", style="yellow"))
