"""`emt ablation`: measure x strategy of what was run, as a Markdown table."""

from __future__ import annotations

from emt_core.cli.options import RanOpt, ThereOpt, check_ran
from emt_core.errors import EmtError
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.lineage import finished


def ablation(workspace: ThereOpt, recipe: RanOpt = None) -> None:
    """Print a recipe's selections: planted truth, diversity, distance to robot data, cost."""
    from emt_core.explore.tables.ablation import ablation as table
    from emt_core.explore.tables.ablation import markdown

    space = Workspace.open(workspace, read_only=True)
    names = check_ran(space, recipe)
    rows = table(space, finished(space, recipe or names[0])) if names else []
    if not rows:
        raise EmtError(
            "no selection has been made yet",
            where=space.path,
            remedy="emt run recipes/demo_measures.yaml -w W",
        )
    print(markdown(rows))
