"""`emt ablation`: measure x strategy of what was run, as a Markdown table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emt_core.errors import EmtError
from emt_core.workspace.artifact import Workspace


def ablation(
    workspace: Annotated[
        Path, typer.Option("--workspace", "-w", help="Folder that holds all results.")
    ],
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help="Name of a recipe that ran there; default: the last."),
    ] = None,
) -> None:
    """Print the ablation of a recipe's selections: planted truth, diversity, distance to robot
    data, cost."""
    from emt_core.explore.tables.ablation import ablation as table
    from emt_core.explore.tables.ablation import markdown
    from emt_core.workspace.lineage import finished, recipe_names

    space = Workspace.open(workspace, read_only=True)
    names = recipe_names(space)
    if recipe is not None and recipe not in names:
        raise EmtError(
            f"no recipe {recipe!r} ran here",
            where=space.path,
            remedy=f"recipes: {', '.join(names)}",
        )
    rows = table(space, finished(space, recipe or names[0])) if names else []
    if not rows:
        raise EmtError(
            "no selection has been made yet",
            where=space.path,
            remedy="emt run recipes/demo_measures.yaml -w W",
        )
    print(markdown(rows))
