"""A source's settings as the fields of a form, read off the configuration models: nothing is written down twice."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from emt_core.errors import EmtError
from emt_core.recipe.base import StageConfig
from emt_core.recipe.sources import SourceBase, SourceConfig

FieldKind = Literal["text", "number", "flag", "choice", "list"]
FIRST, LAST = ("name", "role", "path"), ("limit", "max_pixels")


@dataclass(frozen=True, kw_only=True)
class Field:
    """One setting of a source."""

    name: str
    help: str
    kind: FieldKind
    required: bool
    default: Any = None
    options: tuple[str, ...] = ()
    """Of a choice."""

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").capitalize()


@cache
def formats() -> dict[str, type[SourceBase]]:
    """Format -> its model, in the order of the configuration."""
    union = get_args(SourceConfig)[0]
    return {
        get_args(model.model_fields["format"].annotation)[0]: model for model in get_args(union)
    }


def format_help(format_: str) -> str:
    return formats()[format_].model_fields["format"].description or ""


@cache
def fields_of(format_: str) -> tuple[Field, ...]:
    """The form's fields: what names the source, the format's own (required ones first), bounds."""
    found = []
    for name, info in formats()[format_].model_fields.items():
        if name == "format":
            continue
        kind, options = _field_kind(info.annotation)
        default = None if info.default is PydanticUndefined else info.default
        found.append(
            Field(
                name=name,
                help=info.description or "",
                kind=kind,
                required=info.is_required(),
                default=default,
                options=options,
            )
        )
    order = {
        **{name: place - len(FIRST) for place, name in enumerate(FIRST)},
        **dict.fromkeys(LAST, 1),
    }
    return tuple(sorted(found, key=lambda field: (order.get(field.name, 0), not field.required)))


def _field_kind(annotation: Any) -> tuple[FieldKind, tuple[str, ...]]:
    origin = get_origin(annotation)
    if origin is Literal:
        return "choice", get_args(annotation)
    if origin in (Union, types.UnionType):
        return _field_kind(next(part for part in get_args(annotation) if part is not type(None)))
    if origin is tuple:
        return "list", ()
    return {bool: "flag", int: "number"}.get(annotation, "text"), ()  # type: ignore[return-value]


def build_source(format_: str, values: Mapping[str, Any]) -> SourceConfig:
    """Checked settings from what a form holds; what was left empty takes its default. Raises EmtError naming the field.

    A list may come as text, its items separated by commas.
    """
    given: dict[str, Any] = {"format": format_}
    for field in fields_of(format_):
        value = values.get(field.name)
        if isinstance(value, str):
            value = value.strip()
        if value in (None, ""):
            if field.required:
                raise EmtError(f"{field.label} is needed", remedy=field.help)
            continue
        if field.kind == "list" and isinstance(value, str):
            value = tuple(item.strip() for item in value.split(",") if item.strip())
        given[field.name] = value
    try:
        return _adapter().validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("", format_))
        raise EmtError(
            f"{where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}",
            remedy="correct it above",
        ) from error


def parse_source(entry: Mapping[str, Any]) -> SourceConfig:
    """A source as a recipe or an artifact's config holds it. Raises pydantic's ValidationError."""
    return _adapter().validate_python(dict(entry))


def plain(source: SourceConfig) -> dict[str, Any]:
    """What a recipe has to say of it: name, role, format, path, and whatever is not the default."""
    changed = source.model_dump(mode="json", exclude_defaults=True)
    return {
        "name": source.name,
        "role": source.role,
        "format": source.format,
        "path": source.path,
        **changed,
    }


@cache
def _adapter() -> TypeAdapter[SourceConfig]:
    return TypeAdapter(SourceConfig)


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
        default = (
            None if info.is_required() else _plain(info.get_default(call_default_factory=True))
        )
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
        return (
            ("choice", False, options)
            if all(isinstance(o, str) for o in options)
            else ("yaml", False, ())
        )
    kinds: dict[Any, Kind] = {bool: "flag", int: "whole", float: "number", str: "text"}
    return kinds.get(annotation, "yaml"), False, ()
