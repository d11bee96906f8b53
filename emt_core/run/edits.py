"""Keep what was tuned on a page: one more named instance in the workspace's copy of the recipe, and a note on it.

<workspace>/recipes/<recipe>.yaml           gets `select.<name>` or `gap.<name>`; all that determines it stands there
<workspace>/curation/saved/<recipe>.json    the labels that were added so: a run of the original keeps these, no others
<workspace>/curation/notes/<recipe>.json    {label: {"note", "at"}}: words for people, which determine nothing
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emt_core.errors import EmtError
from emt_core.flow import STAGES
from emt_core.recipe.form import _plain, parse_source, plain
from emt_core.recipe.recipe import Recipe, apply_overrides, build_recipe, config_model
from emt_core.recipe.sources import SourceConfig
from emt_core.run.recipes import (
    NOTE_CHARS,
    _edit,
    _is_name,
    _saved,
    _saved_path,
    _tie_children,
    _write_note,
)
from emt_core.workspace.artifact import Artifact, Workspace, write_json, write_text
from emt_core.workspace.lineage import Lineage, recipe_path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
PARENT_STAGES = {"select": ("sources", "embed", "category", "score"), "gap": ("sources", "embed")}


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
    stages = [
        stage
        for stage in PARENT_STAGES["select"]
        if stage != "score" or config.get("strategy", "top") == "top"
    ]
    parents = {
        stage: getattr(chain, stage) for stage in stages if getattr(chain, stage) is not None
    }
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
            raise EmtError(
                f"there is already a {noun} {name!r}", where=path, remedy="choose another name"
            )
        named = _named(raw, parents, done)
        _tie_children(raw, stage)
        raw[label] = {**config, **({"parents": named} if named else {})}
        build_recipe(raw, where=path)
        write_json(_saved_path(workspace, recipe), [*_saved(workspace, recipe), label])
        write_text(path, yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
    return label


def _named(
    raw: Mapping[str, Any], parents: Mapping[str, Artifact], done: Mapping[str, Artifact]
) -> dict[str, str]:
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


Entries = list[dict[str, Any]]


@dataclass(frozen=True)
class Changes:
    """What a recipe says now against what was read last, by name of source."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    reordered: bool = False

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed or self.reordered)

    @property
    def sentence(self) -> str:
        """`2 added (a, b), 1 removed (c)`."""
        parts = [
            f"{len(names)} {what} ({', '.join(names)})"
            for what, names in (
                ("added", self.added),
                ("changed", self.changed),
                ("removed", self.removed),
            )
            if names
        ]
        return ", ".join(parts) or "their order changed"


def recipe_sources(recipe: Recipe, label: str) -> tuple[SourceConfig, ...]:
    """The sources of one `sources` instance; none where the recipe lacks it."""
    return next((i.config.sources for i in recipe.instances if i.label == label), ())  # type: ignore[attr-defined]


def changes(wanted: Sequence[SourceConfig], read: Sequence[Mapping[str, Any]]) -> Changes:
    """Settings compared with settings: cheap, and blind to files that changed on disk (the key sees those)."""
    before = {entry["name"]: parse_source(entry) for entry in read}
    now = {source.name: source for source in wanted}
    both = [name for name in now if name in before]
    return Changes(
        added=tuple(name for name in now if name not in before),
        changed=tuple(name for name in both if now[name] != before[name]),
        removed=tuple(name for name in before if name not in now),
        reordered=both != [name for name in before if name in now],
    )


def put_source(
    workspace: Workspace,
    recipe: str,
    source: SourceConfig,
    *,
    label: str = "sources",
    replaces: str | None = None,
) -> None:
    """Write the source behind the others, or in the place of `replaces`. Starts nothing.

    Raises EmtError in a workspace open for viewing, where the name is taken, `replaces` is not there, or the recipe
    would not be valid any more; then nothing is changed.
    """

    def change(entries: Entries) -> None:
        names = [entry.get("name") for entry in entries]
        if source.name in names and source.name != replaces:
            raise EmtError(
                f"there is already a source named {source.name!r}", remedy="choose another name"
            )
        if replaces is None:
            entries.append(plain(source))
        else:
            entries[_place(names, replaces)] = plain(source)

    _edit_sources(workspace, recipe, label, change)


def remove_source(workspace: Workspace, recipe: str, name: str, *, label: str = "sources") -> None:
    """Take a source out of the recipe; its data and everything made from it stay. Raises EmtError as `put_source`."""

    def change(entries: Entries) -> None:
        if len(entries) == 1:
            raise EmtError("a recipe needs at least one source", remedy="add another source first")
        del entries[_place([entry.get("name") for entry in entries], name)]

    _edit_sources(workspace, recipe, label, change)


def _place(names: Sequence[Any], name: str) -> int:
    if name not in names:
        raise EmtError(f"there is no source named {name!r} any more", remedy="load the page again")
    return names.index(name)


def _edit_sources(
    workspace: Workspace, recipe: str, label: str, change: Callable[[Entries], None]
) -> None:
    workspace.check_writable()
    path = recipe_path(workspace, recipe)
    with workspace.lock("state", f"recipe-{recipe}"):
        raw = _read(path)
        body = raw.get(label)
        if isinstance(body, list):
            entries = body
        elif isinstance(body, dict) and isinstance(body.get("sources"), list):
            entries = body["sources"]
        else:
            raise EmtError(f"the recipe has no list of sources under {label!r}", where=path)
        change(entries)
        build_recipe(raw, where=path)
        # an arm may set a field of a source that is gone
        for arm, settings in (raw.get("arms") or {}).items():
            build_recipe(apply_overrides(raw, settings), where=f"{path}, arm {arm!r}")
        write_text(path, yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise EmtError("the workspace's recipe cannot be read", where=path) from error
    if not isinstance(found, dict):
        raise EmtError("the workspace's recipe is not a mapping", where=path)
    return found


def change_settings(
    workspace: Workspace,
    recipe: str,
    label: str,
    settings: Mapping[str, Any],
    *,
    beside: str | None = None,
) -> str:
    """Set fields of an instance, or of a copy of it named `beside`; returns the label that has them.

    Raises EmtError where a setting or the name is not valid, or the recipe would no longer hold together; then nothing
    is changed.
    """
    stage = label.partition(".")[0]
    target = label if beside is None else f"{stage}.{beside}"

    def change(raw: dict[str, Any]) -> None:
        if label not in raw:
            raise EmtError(
                f"the recipe has no {label!r} of its own", remedy="change the recipe's file instead"
            )
        if beside is not None and target in raw:
            raise EmtError(f"there is already a {target!r}", remedy="choose another name")
        body = raw[label] if isinstance(raw[label], dict) else {}
        changed = {**body, **settings}
        fields = config_model(stage, changed).model_fields
        defaults = {name: _plain(info.default) for name, info in fields.items()}
        raw[target] = {
            name: v for name, v in changed.items() if name in body or defaults.get(name, ...) != v
        }

    if beside is not None and not _is_name(beside):
        raise EmtError(
            f"{beside!r} cannot be a name",
            remedy="1-40 letters, digits, '-' or '_', starting with a letter",
        )
    _edit(workspace, recipe, change)
    return target


def add_stage(workspace: Workspace, recipe: str, stage: str) -> str:
    """Put a stage into the recipe with its defaults; returns its label. Raises EmtError as `change_settings`."""

    def change(raw: dict[str, Any]) -> None:
        if stage not in STAGES:
            raise EmtError(f"there is no stage {stage!r} to add")
        raw.setdefault(stage, {})

    _edit(workspace, recipe, change)
    return stage
