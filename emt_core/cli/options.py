"""Arguments and options that several verbs share, and the console that they print to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from emt_core.errors import EmtError
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.lineage import recipe_names

RESULTS = "Folder that holds all results; made if it is not there."

RecipeArg = Annotated[
    Path,
    typer.Argument(
        help="Recipe file (.yaml), or the name of one that comes with the product (demo).",
        metavar="RECIPE",
    ),
]

WorkspaceOpt = Annotated[Path, typer.Option("--workspace", "-w", help=RESULTS)]

ThereOpt = Annotated[Path, typer.Option("--workspace", "-w", help="Folder that holds all results.")]
"""A workspace that has to be there already."""

RanOpt = Annotated[
    str | None,
    typer.Option("--recipe", "-r", help="Name of a recipe that ran there; default: the last."),
]

SetOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change a setting of the recipe, e.g. --set select.quarter.fraction=0.5. "
        "May be repeated.",
    ),
]

out = Console()


def check_ran(space: Workspace, recipe: str | None) -> list[str]:
    """Recipes that ran in a workspace, the last first. Raises EmtError where `recipe` did not."""
    names = recipe_names(space)
    if recipe is not None and recipe not in names:
        raise EmtError(
            f"no recipe {recipe!r} ran here",
            where=space.path,
            remedy=f"known: {', '.join(names) or 'none'}",
        )
    return names
