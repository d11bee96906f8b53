"""The verb of a stage that needs no options of its own: `emt STAGE RECIPE` runs the recipe up to
it."""

from __future__ import annotations

from collections.abc import Callable

from emt_core.cli.options import RecipeArg, SetOpt, WorkspaceOpt
from emt_core.cli.run import run_recipe
from emt_core.flow import Stage


def stage_verb(stage: Stage) -> Callable[..., None]:
    """A command that runs everything up to this stage; its help says what feeds the stage."""

    def verb(recipe: RecipeArg, workspace: WorkspaceOpt, set_: SetOpt = None) -> None:
        run_recipe(recipe, workspace, set_, until=stage.name)

    parents = [*stage.needs, *([" or ".join(stage.one_of)] if stage.one_of else [])]
    needs = f" Needs: {', '.join(parents)} (run first where missing)." if parents else ""
    takes = (
        f" Takes what {' and '.join(stage.if_there)} found, where the recipe has them."
        if stage.if_there
        else ""
    )
    asks = (
        f" Where the recipe's settings ask for it, also: {', '.join(stage.may_use)}."
        if stage.may_use
        else ""
    )
    verb.__doc__ = f"{stage.sentence}{needs}{takes}{asks}"
    return verb
