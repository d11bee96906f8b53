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
from emt_core.source_config import SourceBase, SourceConfig

Kind = Literal["text", "number", "flag", "choice", "list"]
FIRST, LAST = ("name", "role", "path"), ("limit", "max_pixels")


@dataclass(frozen=True, kw_only=True)
class Field:
    """One setting of a source."""

    name: str
    help: str
    kind: Kind
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
    return {get_args(model.model_fields["format"].annotation)[0]: model for model in get_args(union)}


def format_help(format_: str) -> str:
    return formats()[format_].model_fields["format"].description or ""


@cache
def fields_of(format_: str) -> tuple[Field, ...]:
    """The form's fields: what names the source, the format's own (required ones first), bounds."""
    found = []
    for name, info in formats()[format_].model_fields.items():
        if name == "format":
            continue
        kind, options = _kind(info.annotation)
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
    order = {**{name: place - len(FIRST) for place, name in enumerate(FIRST)}, **dict.fromkeys(LAST, 1)}
    return tuple(sorted(found, key=lambda field: (order.get(field.name, 0), not field.required)))


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...]]:
    origin = get_origin(annotation)
    if origin is Literal:
        return "choice", get_args(annotation)
    if origin in (Union, types.UnionType):
        return _kind(next(part for part in get_args(annotation) if part is not type(None)))
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
            f"{where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}", remedy="correct it above"
        ) from error


def parse_source(entry: Mapping[str, Any]) -> SourceConfig:
    """A source as a recipe or an artifact's config holds it. Raises pydantic's ValidationError."""
    return _adapter().validate_python(dict(entry))


def plain(source: SourceConfig) -> dict[str, Any]:
    """What a recipe has to say of it: name, role, format, path, and whatever is not the default."""
    changed = source.model_dump(mode="json", exclude_defaults=True)
    return {"name": source.name, "role": source.role, "format": source.format, "path": source.path, **changed}


@cache
def _adapter() -> TypeAdapter[SourceConfig]:
    return TypeAdapter(SourceConfig)
