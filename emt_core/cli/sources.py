"""`emt sources RECIPE`: the sources as their readers see them, before any model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emt_core.cli.options import RecipeArg, SetOpt, out
from emt_core.cli.run import run_recipe
from emt_core.errors import EmtError

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
        typer.Option(help="Write a contact sheet of a few images per source into this folder."),
    ] = None,
    set_: SetOpt = None,
) -> None:
    """Look at all sources before any model is loaded: counts, rejects with reasons, sizes, a few
    thumbnails."""
    from rich.text import Text

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
    for problem in _later_problems(loaded):
        out.print(Text(f"a later stage will stop: {problem.message()}", style="yellow"))
    if workspace is not None:
        run_recipe(recipe, workspace, set_, until="sources")


def _later_problems(recipe: Recipe) -> list[EmtError]:
    """What is known to stop a stage that follows."""
    from emt_core.run.checks import forecast
    from emt_core.run.plan import make_plan

    try:
        later = [i for i in make_plan(recipe, whole=False).instances if i.stage != "sources"]
    except EmtError as error:
        return [error]
    return forecast(later, recipe, None).problems
