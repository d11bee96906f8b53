"""The workspace's copies of recipes: take one in, change an instance's settings, add a stage. Starts nothing.

The file a recipe came from is never touched; what was made with other settings stays and shows as stale.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from emt_core.errors import EmtError
from emt_core.flow import STAGES
from emt_core.recipe.recipe import Recipe, build_recipe, dump_recipe, load_recipe
from emt_core.run.plan import make_plan
from emt_core.workspace.artifact import Workspace, read_json, write_json, write_text
from emt_core.workspace.lineage import recipe_path


def add_recipe(workspace: Workspace, file: Path) -> str:
    """Copy a recipe file into the workspace, checked; returns its name.

    Raises EmtError where the file is no valid recipe, or another recipe of that name is there.
    """
    workspace.check_writable()
    recipe = load_recipe(file)
    path = recipe_path(workspace, recipe.name)
    text = dump_recipe(recipe)
    with workspace.lock("state", f"recipe-{recipe.name}"):
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise EmtError(
                f"this workspace has another recipe named {recipe.name!r}",
                where=path,
                remedy="give the new one a `name:` of its own",
            )
        write_text(path, text)
    return recipe.name


def _edit(workspace: Workspace, recipe: str, change: Callable[[dict[str, Any]], None]) -> None:
    workspace.check_writable()
    path = recipe_path(workspace, recipe)
    with workspace.lock("state", f"recipe-{recipe}"):
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        before = dict(raw)
        change(raw)
        checked = build_recipe(raw, where=path)
        try:
            make_plan(checked)
        except EmtError:
            if _plans(before, path):  # it held together until now
                raise
        write_text(path, yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))


def _plans(raw: Mapping[str, Any], path: Path) -> bool:
    try:
        make_plan(build_recipe(raw, where=path))
    except EmtError:
        return False
    return True


def _is_name(name: str) -> bool:
    return (
        0 < len(name) <= 40
        and name[0].isalnum()
        and all(c.isalnum() or c in "-_" for c in name)
        and name.isascii()
    )


def notes(workspace: Workspace, recipe: str) -> dict[str, str]:
    """Label -> note of the instances that were saved with one."""
    try:
        return {
            label: entry["note"]
            for label, entry in read_json(_notes_path(workspace, recipe)).items()
        }
    except FileNotFoundError:
        return {}


def with_saved(recipe: Recipe, workspace: Workspace) -> Recipe:
    """A recipe from elsewhere with the instances that were saved into the workspace's copy of it and still stand there.

    Hold the lock of the copy. An instance that the recipe itself names is the recipe's.
    """
    path, raw = recipe_path(workspace, recipe.name), dict(recipe.raw)
    kept = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    for label in _saved(workspace, recipe.name):
        if label in kept and label not in raw:
            _tie_children(raw, label.partition(".")[0])
            raw[label] = kept[label]
    return recipe.model_copy(update={"raw": raw})


def _saved_path(workspace: Workspace, recipe: str) -> Path:
    return workspace.path / "curation" / "saved" / f"{recipe}.json"


def _saved(workspace: Workspace, recipe: str) -> list[str]:
    path = _saved_path(workspace, recipe)
    return read_json(path) if path.exists() else []


def _tie_children(raw: dict[str, Any], stage: str) -> None:
    """What was fed by the only instance of a stage goes on being fed by it: with a second one, the plan would ask."""
    there = [label for label in raw if label.partition(".")[0] == stage]
    if len(there) != 1 or there[0] == stage:  # an unnamed instance stays the first choice
        return
    name = there[0].partition(".")[2]
    for label, body in raw.items():
        child = STAGES.get(label.partition(".")[0])
        if (
            child is None
            or stage not in (*child.needs, *child.may_use, *child.one_of)
            or isinstance(body, list)
        ):
            continue
        raw[label] = {
            **(body or {}),
            "parents": {stage: name, **((body or {}).get("parents") or {})},
        }


def _notes_path(workspace: Workspace, recipe: str) -> Path:
    return workspace.path / "curation" / "notes" / f"{recipe}.json"


def _write_note(workspace: Workspace, recipe: str, label: str, note: str) -> None:
    path = _notes_path(workspace, recipe)
    with workspace.lock("curation", f"notes-{recipe}"):
        there = read_json(path) if path.exists() else {}
        write_json(path, there | {label: {"note": note, "at": time.time()}})


NOTE_CHARS = 500
