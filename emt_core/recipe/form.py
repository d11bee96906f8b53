"""Settings as the fields of a form, read off the configuration models: nothing is listed twice."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from emt_core.errors import EmtError
from emt_core.recipe.base import Frozen
from emt_core.recipe.sources import SourceBase, SourceConfig

Kind = Literal["flag", "whole", "number", "choice", "text", "list", "yaml"]
"""How a setting is asked for. list: several texts. yaml: whatever fits no other kind."""

SIMPLE_KINDS: dict[Any, Kind] = {bool: "flag", int: "whole", float: "number", str: "text"}
FIRST = ("name", "role", "path")
LAST = ("limit", "max_pixels")
"""Settings of a source that lead and end its form."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of a configuration model, for a table or a form. Values are as JSON has them."""

    name: str
    value: Any
    """What the configuration says; of a bare model the default."""

    default: Any
    """None where the setting is required."""

    help: str
    kind: Kind
    required: bool
    optional: bool
    """Whether it may be None."""

    options: tuple[str, ...] = ()
    """Of a choice."""

    @property
    def changed(self) -> bool:
        return self.value != self.default

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").capitalize()


def settings_of(config: Frozen | type[Frozen]) -> list[Setting]:
    """Every field of a configuration, or of a bare model, in the model's order."""
    model = config if isinstance(config, type) else type(config)
    settings = []
    for name, info in model.model_fields.items():
        kind, optional, options = _kind(info.annotation)
        required = info.is_required()
        default = None if required else as_json(info.get_default(call_default_factory=True))
        settings.append(
            Setting(
                name=name,
                value=default if config is model else as_json(getattr(config, name)),
                default=default,
                help=" ".join((info.description or "").split()),
                kind=kind,
                required=required,
                optional=optional,
                options=options,
            )
        )
    return settings


def as_json(value: Any) -> Any:
    """A setting's value as JSON has it: lists for tuples, dictionaries for models."""
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _kind(annotation: Any) -> tuple[Kind, bool, tuple[str, ...]]:
    """Kind, whether None is allowed, and a choice's options, of a field's annotation."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin in (Union, types.UnionType):
        parts = [part for part in arguments if part is not type(None)]
        optional = len(parts) < len(arguments)
        if len(parts) > 1:
            return "yaml", optional, ()
        kind, _, options = _kind(parts[0])
        return kind, optional, options
    if origin is Literal and all(isinstance(option, str) for option in arguments):
        return "choice", False, arguments
    if annotation == tuple[str, ...]:
        return "list", False, ()
    return SIMPLE_KINDS.get(annotation, "yaml"), False, ()


@cache
def formats() -> dict[str, type[SourceBase]]:
    """A source's format -> its model, in the order of the configuration."""
    models = get_args(get_args(SourceConfig)[0])
    return {get_args(model.model_fields["format"].annotation)[0]: model for model in models}


def format_help(format_: str) -> str:
    return formats()[format_].model_fields["format"].description or ""


@cache
def source_settings(format_: str) -> tuple[Setting, ...]:
    """A source's form: what names it, the format's own settings (required ones first), bounds."""
    order = {name: place - len(FIRST) for place, name in enumerate(FIRST)}
    order |= dict.fromkeys(LAST, 1)
    own = [setting for setting in settings_of(formats()[format_]) if setting.name != "format"]
    return tuple(sorted(own, key=lambda s: (order.get(s.name, 0), not s.required)))


def build_source(format_: str, values: Mapping[str, Any]) -> SourceConfig:
    """Checked settings from what a form holds; an empty field takes its default.

    A list may come as text, its items separated by commas. Raises EmtError that names the field.
    """
    given: dict[str, Any] = {"format": format_}
    for setting in source_settings(format_):
        value = values.get(setting.name)
        if isinstance(value, str):
            value = value.strip()
        if value in (None, ""):
            if setting.required:
                raise EmtError(f"{setting.label} is needed", remedy=setting.help)
            continue
        if setting.kind == "list" and isinstance(value, str):
            value = tuple(item.strip() for item in value.split(",") if item.strip())
        given[setting.name] = value
    try:
        return parse_source(given)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part not in ("", format_))
        message = first["msg"].removeprefix("Value error, ")
        text = f"{field}: {message}" if field else message
        raise EmtError(text, remedy="correct it above") from error


def parse_source(entry: Mapping[str, Any]) -> SourceConfig:
    """A source as a recipe or an artifact's config holds it. Raises pydantic's ValidationError."""
    return _adapter().validate_python(dict(entry))


@cache
def _adapter() -> TypeAdapter[SourceConfig]:
    return TypeAdapter(SourceConfig)


def source_entry(source: SourceConfig) -> dict[str, Any]:
    """What a recipe has to say of a source: name, role, format, path, and all but the defaults."""
    leading = {name: getattr(source, name) for name in ("name", "role", "format", "path")}
    return leading | source.model_dump(mode="json", exclude_defaults=True)
