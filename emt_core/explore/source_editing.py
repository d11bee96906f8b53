"""Add, change and remove sources in the workspace's copy of a recipe. The file a recipe came from is never touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emt_core.artifact import Workspace, write_text
from emt_core.errors import EmtError
from emt_core.explore.lineage import recipe_path
from emt_core.explore.source_form import parse_source, plain
from emt_core.recipe import Recipe, apply_overrides, build_recipe
from emt_core.source_config import SourceConfig

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
            for what, names in (("added", self.added), ("changed", self.changed), ("removed", self.removed))
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
    workspace: Workspace, recipe: str, source: SourceConfig, *, label: str = "sources", replaces: str | None = None
) -> None:
    """Write the source behind the others, or in the place of `replaces`. Starts nothing.

    Raises EmtError in a workspace open for viewing, where the name is taken, `replaces` is not there, or the recipe
    would not be valid any more; then nothing is changed.
    """

    def change(entries: Entries) -> None:
        names = [entry.get("name") for entry in entries]
        if source.name in names and source.name != replaces:
            raise EmtError(f"there is already a source named {source.name!r}", remedy="choose another name")
        if replaces is None:
            entries.append(plain(source))
        else:
            entries[_place(names, replaces)] = plain(source)

    _edit(workspace, recipe, label, change)


def remove_source(workspace: Workspace, recipe: str, name: str, *, label: str = "sources") -> None:
    """Take a source out of the recipe; its data and everything made from it stay. Raises EmtError as `put_source`."""

    def change(entries: Entries) -> None:
        if len(entries) == 1:
            raise EmtError("a recipe needs at least one source", remedy="add another source first")
        del entries[_place([entry.get("name") for entry in entries], name)]

    _edit(workspace, recipe, label, change)


def _place(names: Sequence[Any], name: str) -> int:
    if name not in names:
        raise EmtError(f"there is no source named {name!r} any more", remedy="load the page again")
    return names.index(name)


def _edit(workspace: Workspace, recipe: str, label: str, change: Callable[[Entries], None]) -> None:
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
