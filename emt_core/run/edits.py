"""Changes to the workspace's copy of a recipe: sources, settings, stages, saved instances.

<workspace>/recipes/<recipe>.yaml           the copy; every change here is one call of `_edit`
<workspace>/curation/saved/<recipe>.json    labels that a page added; a later run of the original
                                            recipe keeps these instances (recipes.with_saved)

Nothing here starts a run. A change that is refused leaves the file as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError
from emt_core.flow import STAGES
from emt_core.recipe.form import as_json, parse_source, source_entry
from emt_core.recipe.recipe import (
    Recipe,
    apply_overrides,
    build_recipe,
    config_model,
    dump_recipe,
    read_raw,
)
from emt_core.recipe.sources import SourceConfig
from emt_core.run.plan import make_plan
from emt_core.run.recipes import NOTE_CHARS, note_saved, tie_children, write_note
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import write_text
from emt_core.workspace.lineage import Lineage

Raw = dict[str, Any]
Entries = list[dict[str, Any]]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
"""Names that a page can give an instance; they become part of labels, links and file names."""

NOUNS = {"select": "selection", "gap": "map"}
"""What people call an instance of a stage."""

SELECTION_PARENTS = ("sources", "embed", "category", "score")


def _edit(
    workspace: Workspace,
    recipe: str,
    change: Callable[[Raw], None],
    *,
    plans: bool = True,
    adds: str | None = None,
) -> None:
    """Lock the copy, read it, apply `change`, check the result with every arm, write it.

    adds: label of an instance that a later run of the original recipe keeps.
    plans: also refuse a change after which the recipe can no longer be planned, though it could
    before. Planning needs the files of all sources, and a source may be saved before its files
    are there, so edits of sources do without.
    """
    workspace.check_writable()
    path = workspace.recipe_file(recipe)
    with workspace.lock("state", f"recipe-{recipe}"):
        raw = read_raw(path)
        before = deepcopy(raw)
        change(raw)
        checked = build_recipe(raw, where=path)
        for arm, settings in checked.arms.items():  # an arm may set a field that is gone now
            build_recipe(apply_overrides(raw, settings), where=f"{path}, arm {arm!r}")
        problem = _planning_problem(checked) if plans else None
        if problem is not None and _planned(before, path):
            raise problem
        if adds is not None:
            note_saved(workspace, recipe, adds)
        write_text(path, dump_recipe(raw))


def _planning_problem(recipe: Recipe) -> EmtError | None:
    try:
        make_plan(recipe)
    except EmtError as error:
        return error
    return None


def _planned(raw: Raw, path: Path) -> bool:
    try:
        return _planning_problem(build_recipe(raw, where=path)) is None
    except EmtError:
        return False


def _check_new(raw: Mapping[str, Any], stage: str, name: str) -> None:
    """Raises EmtError where `name` cannot be a name, or the stage has an instance of that name."""
    noun = NOUNS.get(stage, "copy")
    if not NAME.fullmatch(name):
        raise EmtError(
            f"{name!r} cannot be a {noun}'s name",
            remedy="1-40 letters, digits, '-' or '_', starting with a letter or a digit",
        )
    if f"{stage}.{name}" in raw:
        raise EmtError(f"there is already a {noun} {name!r}", remedy="choose another name")


# instances saved from a page


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
    """Write `select.<name>` with these fields of SelectConfig; returns its label.

    chain: the artifacts that the selection was tuned on. done: all finished artifacts by label.
    Where the recipe has several instances of a parent stage, the new selection names those of
    the chain. Raises EmtError where the name or the settings are not valid, the name is taken,
    or a parent has no name in the recipe.
    """
    if len(note) > NOTE_CHARS:
        raise EmtError(f"the note has {len(note):,} characters", remedy=f"at most {NOTE_CHARS}")
    by_score = config.get("strategy", "top") == "top"
    stages = SELECTION_PARENTS if by_score else SELECTION_PARENTS[:-1]
    parents = {stage: made for stage in stages if (made := getattr(chain, stage)) is not None}
    label = _add(workspace, recipe, "select", name, config, parents, done)
    if note.strip():
        write_note(workspace, recipe, label, note.strip())
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
    """Write `gap.<name>` with these fields of GapConfig; otherwise as `add_selection`."""
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
    label = f"{stage}.{name}"

    def change(raw: Raw) -> None:
        _check_new(raw, stage, name)
        named = _parent_names(raw, parents, done)
        tie_children(raw, stage)
        raw[label] = {**config, **({"parents": named} if named else {})}

    _edit(workspace, recipe, change, adds=label)
    return label


def _parent_names(
    raw: Mapping[str, Any], parents: Mapping[str, Artifact], done: Mapping[str, Artifact]
) -> dict[str, str]:
    """Stage -> name of the instance that made the given artifact, where a stage has several."""
    names = {}
    for stage, artifact in parents.items():
        instances = [label for label in raw if label.partition(".")[0] == stage]
        if len(instances) < 2:
            continue
        makers = [label for label in instances if label in done and done[label].key == artifact.key]
        if not makers:
            raise EmtError(
                f"the {stage} shown here has no name of its own in the recipe: it belongs to an "
                "experiment's arm",
                remedy="choose another score in the sidebar, or write this into the recipe by hand",
            )
        names[stage] = makers[0].partition(".")[2]
    return names


# settings and stages


def change_settings(
    workspace: Workspace,
    recipe: str,
    label: str,
    settings: Mapping[str, Any],
    *,
    beside: str | None = None,
) -> str:
    """Set fields of an instance, or of a copy of it named `beside`; returns the changed label.

    Raises EmtError where a setting or the name is not valid, or the recipe could no longer be
    planned.
    """
    stage = label.partition(".")[0]
    target = label if beside is None else f"{stage}.{beside}"

    def change(raw: Raw) -> None:
        if label not in raw:
            raise EmtError(
                f"the recipe has no {label!r} of its own", remedy="change the recipe's file instead"
            )
        if beside is not None:
            _check_new(raw, stage, beside)
        old = raw[label] if isinstance(raw[label], dict) else {}
        new = {**old, **settings}
        fields = config_model(stage, new).model_fields
        defaults = {name: as_json(info.default) for name, info in fields.items()}
        raw[target] = {
            name: value
            for name, value in new.items()
            if name in old or name not in defaults or value != defaults[name]
        }

    _edit(workspace, recipe, change)
    return target


def add_stage(workspace: Workspace, recipe: str, stage: str) -> str:
    """Put a stage into the recipe with its defaults; returns its label.

    Raises EmtError where there is no such stage, or nothing would feed it.
    """
    if stage not in STAGES:
        raise EmtError(f"there is no stage {stage!r} to add")
    _edit(workspace, recipe, lambda raw: raw.setdefault(stage, {}))
    return stage


# sources


@dataclass(frozen=True)
class Changes:
    """How the sources of a recipe differ from those that were read last, by name."""

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
            for what in ("added", "changed", "removed")
            if (names := getattr(self, what))
        ]
        return ", ".join(parts) or "their order changed"


def recipe_sources(recipe: Recipe, label: str) -> tuple[SourceConfig, ...]:
    """The sources of one `sources` instance; none where the recipe lacks it."""
    return next((i.config.sources for i in recipe.instances if i.label == label), ())  # type: ignore[attr-defined]


def changes(wanted: Sequence[SourceConfig], read: Sequence[Mapping[str, Any]]) -> Changes:
    """Compare settings only: a file that changed on disk shows in the key, not here."""
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
    """Add a source behind the others, or put it in the place of the one named `replaces`.

    Raises EmtError where the name is taken, `replaces` is not there, or the recipe would not be
    valid any more.
    """

    def change(entries: Entries) -> None:
        names = [entry.get("name") for entry in entries]
        if source.name in names and source.name != replaces:
            raise EmtError(
                f"there is already a source named {source.name!r}", remedy="choose another name"
            )
        if replaces is None:
            entries.append(source_entry(source))
        else:
            entries[_index_of(entries, replaces)] = source_entry(source)

    _edit_sources(workspace, recipe, label, change)


def remove_source(workspace: Workspace, recipe: str, name: str, *, label: str = "sources") -> None:
    """Take a source out of the recipe; its data and everything made from it stay.

    Raises EmtError where it is not there or is the last one, or an arm needs it.
    """

    def change(entries: Entries) -> None:
        if len(entries) == 1:
            raise EmtError("a recipe needs at least one source", remedy="add another source first")
        del entries[_index_of(entries, name)]

    _edit_sources(workspace, recipe, label, change)


def _index_of(entries: Entries, name: str) -> int:
    names = [entry.get("name") for entry in entries]
    if name not in names:
        raise EmtError(f"there is no source named {name!r} any more", remedy="load the page again")
    return names.index(name)


def _edit_sources(
    workspace: Workspace, recipe: str, label: str, change: Callable[[Entries], None]
) -> None:
    """`_edit` of the list of sources under `label`, written bare or as `sources:` of a mapping."""

    def change_list(raw: Raw) -> None:
        body = raw.get(label)
        entries = body.get("sources") if isinstance(body, dict) else body
        if not isinstance(entries, list):
            raise EmtError(
                f"the recipe has no list of sources under {label!r}",
                where=workspace.recipe_file(recipe),
            )
        change(entries)

    _edit(workspace, recipe, change_list, plans=False)
