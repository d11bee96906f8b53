"""Keep a selection tuned on a page: one more `select.<name>` in the workspace's copy of the recipe."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import yaml

from emt_core.artifact import Workspace
from emt_core.errors import EmtError
from emt_core.explore.lineage import Lineage, recipe_path
from emt_core.recipe import build_recipe

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
PARENT_STAGES = ("sources", "embed", "category", "score")


def add_selection(
    workspace: Workspace, recipe: str, name: str, config: Mapping[str, Any], chain: Lineage, done: Mapping[str, Any]
) -> str:
    """Write `select.<name>` into <workspace>/recipes/<recipe>.yaml; returns its label. Starts nothing.

    config: fields of SelectConfig. chain, done: the artifacts the selection was tuned on and all finished instances:
    the new one is tied to the same parents wherever the recipe has several to choose from.
    Raises EmtError where the name is no name or is taken, the settings are not valid, or a parent cannot be named.
    """
    workspace.check_writable()
    if not NAME.fullmatch(name):
        raise EmtError(
            f"{name!r} cannot be a selection's name", remedy="1-40 letters, digits, '-' or '_', starting with a letter"
        )
    label = f"select.{name}"
    path = recipe_path(workspace, recipe)
    with workspace.lock("state", f"recipe-{recipe}"):
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        if label in raw:
            raise EmtError(f"there is already a selection {name!r}", where=path, remedy="choose another name")
        parents = _parents(raw, chain, done, uses_score=config.get("strategy", "top") == "top")
        raw[label] = {**config, **({"parents": parents} if parents else {})}
        build_recipe(raw, where=path)
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        aside.write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8")
        aside.replace(path)
    return label


def _parents(raw: Mapping[str, Any], chain: Lineage, done: Mapping[str, Any], *, uses_score: bool) -> dict[str, str]:
    """Names of the parent instances, for stages of which the recipe has several."""
    found = {}
    for stage in PARENT_STAGES:
        instances = [label for label in raw if label.partition(".")[0] == stage]
        artifact = getattr(chain, stage)
        if len(instances) < 2 or artifact is None or (stage == "score" and not uses_score):
            continue
        mine = [label for label in instances if label in done and done[label].key == artifact.key]
        if not mine:
            raise EmtError(
                f"the {stage} shown here has no name of its own in the recipe: it belongs to an experiment's arm",
                remedy="choose another score in the sidebar, or write the selection into the recipe by hand",
            )
        found[stage] = mine[0].partition(".")[2]
    return found
