"""The workspace's copies of recipes: take one in, change an instance's settings, add a stage. Starts nothing.

The file a recipe came from is never touched; what was made with other settings stays and shows as stale.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from emt_core.artifact import Workspace, write_text
from emt_core.configs import CONFIGS
from emt_core.errors import EmtError
from emt_core.explore.lineage import recipe_path
from emt_core.flow import STAGES
from emt_core.plan import make_plan
from emt_core.recipe import build_recipe, dump_recipe, load_recipe
from emt_core.stage_config import StageConfig

Kind = Literal["flag", "whole", "number", "choice", "text", "yaml"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of a stage's configuration, for a table or a form."""

    name: str
    value: Any
    default: Any
    help: str
    kind: Kind
    optional: bool
    options: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return self.value != self.default


def settings_of(config: StageConfig) -> list[Setting]:
    """Every field with its value, its default and its documentation, in the order of the model."""
    values = {name: _plain(getattr(config, name)) for name in type(config).model_fields}
    found = []
    for name, info in type(config).model_fields.items():
        kind, optional, options = _kind(info.annotation)
        default = None if info.is_required() else _plain(info.get_default(call_default_factory=True))
        found.append(
            Setting(
                name=name,
                value=values[name],
                default=default,
                help=" ".join((info.description or "").split()),
                kind=kind,
                optional=optional,
                options=options,
            )
        )
    return found


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


def change_settings(
    workspace: Workspace, recipe: str, label: str, settings: Mapping[str, Any], *, beside: str | None = None
) -> str:
    """Set fields of an instance, or of a copy of it named `beside`; returns the label that has them.

    Raises EmtError where a setting or the name is not valid, or the recipe would no longer hold together; then nothing
    is changed.
    """
    stage = label.partition(".")[0]
    target = label if beside is None else f"{stage}.{beside}"

    def change(raw: dict[str, Any]) -> None:
        if label not in raw:
            raise EmtError(f"the recipe has no {label!r} of its own", remedy="change the recipe's file instead")
        if beside is not None and target in raw:
            raise EmtError(f"there is already a {target!r}", remedy="choose another name")
        body = raw[label] if isinstance(raw[label], dict) else {}
        changed = {**body, **settings}
        defaults = {name: _plain(info.default) for name, info in CONFIGS[stage].model_fields.items()}
        raw[target] = {name: v for name, v in changed.items() if name in body or defaults.get(name, ...) != v}

    if beside is not None and not _is_name(beside):
        raise EmtError(
            f"{beside!r} cannot be a name", remedy="1-40 letters, digits, '-' or '_', starting with a letter"
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
    return 0 < len(name) <= 40 and name[0].isalnum() and all(c.isalnum() or c in "-_" for c in name) and name.isascii()


def _plain(value: Any) -> Any:
    """As JSON would have it."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _kind(annotation: Any) -> tuple[Kind, bool, tuple[str, ...]]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        optional = len(parts) < len(get_args(annotation))
        if len(parts) > 1:
            return "yaml", optional, ()
        kind, _, options = _kind(parts[0])
        return kind, optional, options
    if origin is Literal:
        options = get_args(annotation)
        return ("choice", False, options) if all(isinstance(o, str) for o in options) else ("yaml", False, ())
    kinds: dict[Any, Kind] = {bool: "flag", int: "whole", float: "number", str: "text"}
    return kinds.get(annotation, "yaml"), False, ()
