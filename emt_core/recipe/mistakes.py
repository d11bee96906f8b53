"""Errors in the words of a recipe: `source 'web': unknown key pth (did you mean path?)`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from emt_core.errors import EmtError

MOST = 8
"""Mistakes named at once."""

BOUNDS = {"gt": "> ", "ge": ">= ", "lt": "< ", "le": "<= ", "multiple_of": "a multiple of "}
RENAMED = {
    "max_steps": "steps",
    "tune_steps": "steps",
    "batch_size": "batch",
    "tune_batch": "batch",
    "tune_rate": "learning_rate",
    "max_text_tokens": "cutoff",
    "neighbours": "neighbors",
    "normalise": "normalize",
    "standardise": "standardize",
}
"""Old word of a setting -> today's. An old one is an error that names the new one."""

PLAIN_WORDS = {
    "a valid dictionary or object to extract fields from": "a mapping of settings",
    "a valid dictionary": "a mapping",
    "a valid tuple": "a list",
    "a valid boolean": "true or false",
}
"""Pydantic's words -> words for somebody who writes YAML."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """` (did you mean NAME?)`, or "" where no known name is similar."""
    near = get_close_matches(wrong, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def yaml_problem(error: yaml.YAMLError) -> str:
    """`line 3, column 7: expected ',' or ']'`, without the "<unicode string>" of PyYAML's text."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return str(error)
    problem = ", ".join(part for part in (error.problem, error.context) if part)
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


def explain(
    error: ValidationError,
    label: str,
    model: type[BaseModel],
    settings: dict[str, Any],
    where: object,
) -> EmtError:
    """The error that names every mistake pydantic found in one entry (label) of a recipe.

    settings: the entry as it was given to the model.
    """
    faults: dict[str, list[str]] = {}
    """Subject -> faults. A value that fits no member of a union has a fault for each member."""
    helps: list[str] = []
    for detail in _own_mistakes(error.errors()):
        spot = _Spot.at(detail, label, model, settings)
        subject, fault = _sentence(detail, spot)
        faults.setdefault(subject, []).append(fault)
        helps += [spot.help] if spot.help else []
    lines = [subject + " or ".join(dict.fromkeys(faults[subject])) for subject in faults]
    if len(lines) == 1:
        return EmtError(lines[0], where=where, remedy=helps[0] if helps else "")
    shown = [*lines[:MOST], *([f"and {len(lines) - MOST} more"] if len(lines) > MOST else [])]
    text = f"the recipe has {len(lines)} mistakes:\n    " + "\n    ".join(shown)
    return EmtError(text, where=where)


@dataclass(frozen=True)
class _Spot:
    """The place of a mistake in an entry of the YAML.

    Pydantic's own path names members of unions as well (`sources.0.llava.path`); those are left
    out here, and a list's item goes by its `name` where it has one.
    """

    label: str
    names: tuple[str, ...]
    owners: tuple[type[BaseModel], ...]
    """Models that the mapping which holds the last name may be."""

    field: FieldInfo | None

    @classmethod
    def at(
        cls, detail: ErrorDetails, label: str, model: type[BaseModel], settings: dict[str, Any]
    ) -> _Spot:
        value: Any = settings
        names: list[str] = []
        owners = models = (model,)
        for part in detail["loc"]:
            if isinstance(value, dict) and part in value:
                value = value[part]
                owners = models
                models = _models_inside(models, str(part))
                names.append(str(part))
            elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
                value = value[part]
                name = value.get("name") if isinstance(value, dict) else None
                names.append(str(name) if name else f"#{part + 1}")
            else:  # the tag of a union member, or a key that is missing
                models = tuple(m for m in models if part in _tags(m)) or models
        if detail["type"] == "missing":
            owners = models
            names.append(str(detail["loc"][-1]))
        elif detail["type"].startswith("union_tag"):
            owners = models
        last = names[-1] if names else ""
        fields = [owner.model_fields[last] for owner in owners if last in owner.model_fields]
        return cls(label, tuple(names), owners, fields[0] if fields else None)

    @property
    def entry(self) -> str:
        """Where the last name stands: `select.top.caps`, or `source 'web'`."""
        return _place(self.label, self.names[:-1])

    @property
    def whole(self) -> str:
        return _place(self.label, self.names)

    @property
    def keys(self) -> list[str]:
        return list(dict.fromkeys(name for owner in self.owners for name in owner.model_fields))

    @property
    def help(self) -> str:
        """What the field means, as its model documents it."""
        text = " ".join((self.field.description or "").split()) if self.field else ""
        return f"{self.names[-1]}: {text}" if text else ""

    @property
    def bounds(self) -> list[str]:
        """`["> 0", "<= 1"]`: what the field's number has to keep to."""
        return [
            f"{sign}{getattr(limit, name):g}"
            for limit in (self.field.metadata if self.field else [])
            for name, sign in BOUNDS.items()
            if hasattr(limit, name)
        ]


def _place(label: str, names: Sequence[str]) -> str:
    """`select.top.caps`, or `source 'web': path`.

    The list under `sources` is given to the model as its field `sources`, which no recipe says.
    """
    if label.partition(".")[0] == "sources" and names:
        if len(names) == 1:
            return label
        source, *rest = names[1:]
        subject = source if source.startswith("#") else repr(source)
        return f"source {subject}" + (f": {'.'.join(rest)}" if rest else "")
    return ".".join(name for name in (label, *names) if name)


def _sentence(detail: ErrorDetails, spot: _Spot) -> tuple[str, str]:
    """(what it is about, what is wrong with it); joined they are a sentence."""
    context = detail.get("ctx", {})
    kind = detail["type"]
    if kind == "extra_forbidden":
        key = spot.names[-1]
        if RENAMED.get(key) in spot.keys:
            return f"{spot.entry}: {key} is called {RENAMED[key]} now", ""
        near = did_you_mean(key, spot.keys)
        return f"{spot.entry}: unknown key {key}{near}; keys: {', '.join(spot.keys)}", ""
    if kind == "missing":
        return f"{spot.entry}: {spot.names[-1]} is missing", ""
    if kind.startswith("union_tag"):
        name = context["discriminator"].strip("'")
        known = [
            tag for owner in spot.owners for tag in get_args(owner.model_fields[name].annotation)
        ]
        fault = f"{name} is missing"
        if "tag" in context:
            tag = context["tag"]
            fault = f"unknown {name} {tag!r}{did_you_mean(str(tag), known)}"
        return f"{spot.whole}: {fault}; it is one of {', '.join(known)}", ""
    message = re.sub(r"^\w+ should ", "should ", detail["msg"]).removeprefix("Value error, ")
    if not message.startswith("should "):
        return f"{spot.whole}: ", message
    for theirs, plain in PLAIN_WORDS.items():
        message = message.replace(theirs, plain)
    only_this_bound = len(spot.bounds) == 1 and next(iter(context), "") in BOUNDS
    if spot.bounds and not only_this_bound:
        message += f" (allowed: {' and '.join(spot.bounds)})"
    value = repr(detail["input"])
    value = value if len(value) <= 60 else value[:59] + "…"
    return f"{spot.whole} is {value}, but should ", message.removeprefix("should ")


def _own_mistakes(details: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Leave out what only follows from another mistake, so that each mistake is named once.

    `pth: web.json` is an unknown key `pth` and a missing key `path`: the second is left out.
    A list with an invalid item counts as too short by that item: only the item is named.
    """
    unknown = [
        (detail["loc"][:-1], str(detail["loc"][-1]))
        for detail in details
        if detail["type"] == "extra_forbidden"
    ]
    for detail in details:
        path = detail["loc"]
        if detail["type"] == "missing":
            beside = [key for place, key in unknown if place == path[:-1]]
            if any(get_close_matches(key, [str(path[-1])]) for key in beside):
                continue
        inside = [d for d in details if d["loc"][: len(path)] == path and d is not detail]
        if detail["type"] == "too_short" and detail["input"] and inside:
            continue
        yield detail


def _models_inside(models: Sequence[type[BaseModel]], field: str) -> tuple[type[BaseModel], ...]:
    """Models that a field may hold, however deep in lists and unions.

    The models themselves where none has the field: it is then a free key of a dictionary.
    """
    fields = [model.model_fields[field] for model in models if field in model.model_fields]
    if not fields:
        return tuple(models)
    return tuple(inner for info in fields for inner in _models_of(info.annotation))


def _models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_of(part)


def _tags(model: type[BaseModel]) -> set[Any]:
    """Every word of the model's `Literal` fields, the discriminator's among them."""
    return {
        tag
        for field in model.model_fields.values()
        for tag in get_args(field.annotation)
        if isinstance(tag, str)
    }
