"""The workspace's copies of recipes: take one in, and keep what pages saved into it.

<workspace>/recipes/<recipe>.yaml           the copy; edits.py changes it, never the original file
<workspace>/curation/saved/<recipe>.json    labels of instances that a page added to the copy
<workspace>/curation/notes/<recipe>.json    {label: {"note", "at"}}: words for people, in no key
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError
from emt_core.flow import STAGES
from emt_core.recipe.recipe import Recipe, dump_recipe, load_recipe, read_raw
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json_if_there, write_json, write_text

NOTE_CHARS = 500
"""Longest note on a saved instance."""


def add_recipe(workspace: Workspace, file: Path) -> str:
    """Copy a recipe file into the workspace, checked; returns its name.

    Raises EmtError where the file is no valid recipe, or another recipe of that name is there.
    """
    workspace.check_writable()
    recipe = load_recipe(file)
    path = workspace.recipe_file(recipe.name)
    text = dump_recipe(recipe.raw)
    with workspace.lock("state", f"recipe-{recipe.name}"):
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise EmtError(
                f"this workspace has another recipe named {recipe.name!r}",
                where=path,
                remedy="give the new one a `name:` of its own",
            )
        write_text(path, text)
    return recipe.name


def with_saved(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    """The raw recipe, plus the instances that pages saved into the workspace's copy of it.

    Hold the lock of the copy. Where the recipe itself has an instance of that label, its own
    counts.
    """
    path = workspace.recipe_file(recipe.name)
    raw = dict(recipe.raw)
    copy = read_raw(path) if path.exists() else {}
    for label in _saved_labels(workspace, recipe.name):
        if label in copy and label not in raw:
            tie_children(raw, label.partition(".")[0])
            raw[label] = copy[label]
    return raw


def note_saved(workspace: Workspace, recipe: str, label: str) -> None:
    """Add a label to those that `with_saved` keeps. Hold the lock of the copy."""
    workspace.check_writable()
    labels = dict.fromkeys([*_saved_labels(workspace, recipe), label])
    write_json(_saved_path(workspace, recipe), list(labels))


def _saved_labels(workspace: Workspace, recipe: str) -> list[str]:
    return read_json_if_there(_saved_path(workspace, recipe)) or []


def _saved_path(workspace: Workspace, recipe: str) -> Path:
    return workspace.path / "curation" / "saved" / f"{recipe}.json"


def tie_children(raw: dict[str, Any], stage: str) -> None:
    """Name the only instance of a stage as parent in everything that it feeds.

    Called before a second instance is added: the plan would then ask which of the two feeds
    `midtrain`. An unnamed instance needs no naming, it stays the first choice.
    """
    instances = [label for label in raw if label.partition(".")[0] == stage]
    if len(instances) != 1 or instances[0] == stage:
        return
    name = instances[0].partition(".")[2]
    for label, body in raw.items():
        child = STAGES.get(label.partition(".")[0])
        if child is None or isinstance(body, list):
            continue
        if stage in child.feeders:
            settings = body or {}
            parents = {stage: name, **(settings.get("parents") or {})}
            raw[label] = {**settings, "parents": parents}


def notes(workspace: Workspace, recipe: str) -> dict[str, str]:
    """Label -> note of the instances that were saved with one."""
    entries = read_json_if_there(_notes_path(workspace, recipe)) or {}
    return {label: entry["note"] for label, entry in entries.items()}


def write_note(workspace: Workspace, recipe: str, label: str, note: str) -> None:
    path = _notes_path(workspace, recipe)
    with workspace.lock("curation", f"notes-{recipe}"):
        entries = read_json_if_there(path) or {}
        write_json(path, entries | {label: {"note": note, "at": time.time()}})


def _notes_path(workspace: Workspace, recipe: str) -> Path:
    return workspace.path / "curation" / "notes" / f"{recipe}.json"
