"""Runs the evaluate stage with a fake policy in a process of its own, to be killed: RECIPE
WORKSPACE [OVERRIDE ...]."""

from __future__ import annotations

import sys

from dot_policy import DotPolicy

from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.stages import evaluate
from emt_core.workspace.artifact import Workspace

evaluate.load_policy = lambda folder, *_: DotPolicy(gain=0.1)  # workers import this file too


def main(recipe: str, workspace: str, *overrides: str) -> None:
    run_plan(make_plan(load_recipe(recipe, overrides)), Workspace.open(workspace, create=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
