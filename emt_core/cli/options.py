"""Arguments and options that several verbs share, and the console that they print to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

RecipeArg = Annotated[
    Path,
    typer.Argument(
        help="Recipe file (.yaml), or the name of one that comes with the product (demo).",
        metavar="RECIPE",
    ),
]

WorkspaceOpt = Annotated[
    Path,
    typer.Option(
        "--workspace", "-w", help="Folder that holds all results; made if it is not there."
    ),
]

SetOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change a setting of the recipe, e.g. --set select.quarter.fraction=0.5. May be repeated.",
    ),
]

out = Console()
