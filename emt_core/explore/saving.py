"""Keep what was tuned on a page: one more named instance in the workspace's copy of the recipe, and a note on it.

<workspace>/recipes/<recipe>.yaml           gets `select.<name>` or `gap.<name>`; all that determines it stands there
<workspace>/curation/saved/<recipe>.json    the labels that were added so: a run of the original keeps these, no others
<workspace>/curation/notes/<recipe>.json    {label: {"note", "at"}}: words for people, which determine nothing
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from emt_core.artifact import Artifact, Workspace, read_json, write_json, write_text
from emt_core.errors import EmtError
from emt_core.explore.lineage import Lineage, recipe_path
from emt_core.flow import STAGES
from emt_core.recipe import Recipe, build_recipe

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
PARENT_STAGES = {"select": ("sources", "embed", "category", "score"), "gap": ("sources", "embed")}
NOTE_CHARS = 500


def add_selection(
    workspace: Workspace,
    recipe: str,
    name: str,
    config: Mapping[str, Any],
    chain: Lineage,
    done: Mapping[str, Artifact],
    *,
    note: str = "",
) -> str:
    """Write `select.<name>` into <workspace>/recipes/<recipe>.yaml; returns its label. Starts nothing.

    config: fields of SelectConfig. chain, done: the artifacts the selection was tuned on and all finished instances:
    the new one is tied to the same parents wherever the recipe has several to choose from.
    Raises EmtError where the name is no name or is taken, the settings are not valid, or a parent cannot be named.
    """
    if len(note) > NOTE_CHARS:
        raise EmtError(f"the note has {len(note):,} characters", remedy=f"at most {NOTE_CHARS}")
    stages = [stage for stage in PARENT_STAGES["select"] if stage != "score" or config.get("strategy", "top") == "top"]
    parents = {stage: getattr(chain, stage) for stage in stages if getattr(chain, stage) is not None}
    label = _add(workspace, recipe, "select", name, config, parents, done)
    if note.strip():
        _write_note(workspace, recipe, label, note.strip())
    return label


def add_map(
    workspace: Workspace,
    recipe: str,
    name: str,
    config: Mapping[str, Any],
    embed: Artifact,
    sources: Artifact,
    done: Mapping[str, Artifact],
) -> str:
    """Write `gap.<name>` (fields of GapConfig) over these features; returns its label. Raises as add_selection."""
    return _add(workspace, recipe, "gap", name, config, {"sources": sources, "embed": embed}, done)


def notes(workspace: Workspace, recipe: str) -> dict[str, str]:
    """Label -> note of the instances that were saved with one."""
    try:
        return {label: entry["note"] for label, entry in read_json(_notes_path(workspace, recipe)).items()}
    except FileNotFoundError:
        return {}


def _add(
    workspace: Workspace,
    recipe: str,
    stage: str,
    name: str,
    config: Mapping[str, Any],
    parents: Mapping[str, Artifact],
    done: Mapping[str, Artifact],
) -> str:
    workspace.check_writable()
    if not NAME.fullmatch(name):
        noun = {"select": "selection", "gap": "map"}[stage]
        raise EmtError(
            f"{name!r} cannot be a {noun}'s name",
            remedy="1-40 letters, digits, '-' or '_', starting with a letter or a digit",
        )
    label = f"{stage}.{name}"
    path = recipe_path(workspace, recipe)
    with workspace.lock("state", f"recipe-{recipe}"):
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        if label in raw:
            noun = {"select": "selection", "gap": "map"}[stage]
            raise EmtError(f"there is already a {noun} {name!r}", where=path, remedy="choose another name")
        named = _named(raw, parents, done)
        _tie_children(raw, stage)
        raw[label] = {**config, **({"parents": named} if named else {})}
        build_recipe(raw, where=path)
        write_json(_saved_path(workspace, recipe), [*_saved(workspace, recipe), label])
        write_text(path, yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
    return label


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


def _named(raw: Mapping[str, Any], parents: Mapping[str, Artifact], done: Mapping[str, Artifact]) -> dict[str, str]:
    """Names of the parent instances, for stages of which the recipe has several."""
    found = {}
    for stage, artifact in parents.items():
        instances = [label for label in raw if label.partition(".")[0] == stage]
        if len(instances) < 2:
            continue
        mine = [label for label in instances if label in done and done[label].key == artifact.key]
        if not mine:
            raise EmtError(
                f"the {stage} shown here has no name of its own in the recipe: it belongs to an experiment's arm",
                remedy="choose another score in the sidebar, or write this into the recipe by hand",
            )
        found[stage] = mine[0].partition(".")[2]
    return found


def _tie_children(raw: dict[str, Any], stage: str) -> None:
    """What was fed by the only instance of a stage goes on being fed by it: with a second one, the plan would ask."""
    there = [label for label in raw if label.partition(".")[0] == stage]
    if len(there) != 1 or there[0] == stage:  # an unnamed instance stays the first choice
        return
    name = there[0].partition(".")[2]
    for label, body in raw.items():
        child = STAGES.get(label.partition(".")[0])
        if child is None or stage not in (*child.needs, *child.may_use, *child.one_of) or isinstance(body, list):
            continue
        raw[label] = {**(body or {}), "parents": {stage: name, **((body or {}).get("parents") or {})}}


def _notes_path(workspace: Workspace, recipe: str) -> Path:
    return workspace.path / "curation" / "notes" / f"{recipe}.json"


def _write_note(workspace: Workspace, recipe: str, label: str, note: str) -> None:
    path = _notes_path(workspace, recipe)
    with workspace.lock("curation", f"notes-{recipe}"):
        there = read_json(path) if path.exists() else {}
        write_json(path, there | {label: {"note": note, "at": time.time()}})
