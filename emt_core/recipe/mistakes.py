"""What is wrong in a recipe, in the words of its YAML: `source 'web': unknown key pth (did you mean path?)`."""

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

OUR_WORDS = {
    "a valid dictionary or object to extract fields from": "a mapping of settings",
    "a valid dictionary": "a mapping",
    "a valid tuple": "a list",
    "a valid boolean": "true or false",
}


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """` (did you mean NAME?)`, or nothing where no known name is near."""
    near = get_close_matches(wrong, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def yaml_problem(error: yaml.YAMLError) -> str:
    """`line 3, column 7: expected ',' or ']'`; PyYAML's own text quotes a "<unicode string>" that nobody knows."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return str(error)
    words = ", ".join(part for part in (error.problem, error.context) if part)
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {words}" if mark else words


def explain(
    error: ValidationError,
    label: str,
    model: type[BaseModel],
    settings: dict[str, Any],
    where: object,
) -> EmtError:
    """All that pydantic found in one entry (label) of a recipe. settings: the entry as the model was given it."""
    said: dict[str, list[str]] = {}
    helps: list[str] = []
    for detail in _worth_telling(error.errors()):
        spot = _Spot.at(detail, label, model, settings)
        subject, words = _sentence(detail, spot)
        said.setdefault(subject, []).append(
            words
        )  # a value that fits no member of a union has an error for each
        helps += [spot.help] if spot.help else []
    lines = [subject + " or ".join(dict.fromkeys(words)) for subject, words in said.items()]
    if len(lines) == 1:
        return EmtError(lines[0], where=where, remedy=helps[0] if helps else "")
    shown = [*lines[:MOST], *([f"and {len(lines) - MOST} more"] if len(lines) > MOST else [])]
    return EmtError(
        f"the recipe has {len(lines)} mistakes:\n    " + "\n    ".join(shown), where=where
    )


@dataclass(frozen=True)
class _Spot:
    """A place in an entry: pydantic's path, less the names of union members that stand in it and not in the YAML."""

    label: str
    names: tuple[str, ...]
    owners: tuple[type[BaseModel], ...]
    """Models that the mapping round the last name may be."""

    field: FieldInfo | None

    @classmethod
    def at(
        cls, detail: ErrorDetails, label: str, model: type[BaseModel], settings: dict[str, Any]
    ) -> _Spot:
        here: Any = settings
        names: list[str] = []
        owners, models = (model,), (model,)
        for part in detail["loc"]:
            if isinstance(here, dict) and part in here:
                here = here[part]
                owners, models = models, _models_inside(models, str(part))
                names.append(str(part))
            elif isinstance(here, list | tuple) and isinstance(part, int) and part < len(here):
                here = here[part]
                name = here.get("name") if isinstance(here, dict) else None
                names.append(str(name) if name else f"#{part + 1}")
            else:  # the tag of a union member, else a key that is missing
                models = tuple(m for m in models if part in _tags(m)) or models
        if detail["type"] == "missing":
            owners = models
            names.append(str(detail["loc"][-1]))
        elif detail["type"].startswith("union_tag"):
            owners = models
        fields = [
            owner.model_fields[names[-1]]
            for owner in owners
            if names and names[-1] in owner.model_fields
        ]
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
        words = " ".join((self.field.description or "").split()) if self.field else ""
        return f"{self.names[-1]}: {words}" if words else ""

    @property
    def bounds(self) -> list[str]:
        found = self.field.metadata if self.field else []
        return [
            f"{sign}{getattr(one, name):g}"
            for one in found
            for name, sign in BOUNDS.items()
            if hasattr(one, name)
        ]


def _place(label: str, names: Sequence[str]) -> str:
    if (
        label.partition(".")[0] == "sources" and names
    ):  # an entry that is a list: the field `sources` is only ours
        if len(names) == 1:
            return label
        source, *rest = names[1:]
        named = source if source.startswith("#") else repr(source)
        return f"source {named}" + (f": {'.'.join(rest)}" if rest else "")
    return ".".join(name for name in (label, *names) if name)


def _sentence(detail: ErrorDetails, spot: _Spot) -> tuple[str, str]:
    """(what it is about, what is wrong with it): the two joined are the sentence."""
    context, kind = detail.get("ctx", {}), detail["type"]
    if kind == "extra_forbidden":
        key = spot.names[-1]
        if RENAMED.get(key) in spot.keys:
            return f"{spot.entry}: {key} is called {RENAMED[key]} now", ""
        return (
            f"{spot.entry}: unknown key {key}{did_you_mean(key, spot.keys)}; keys: {', '.join(spot.keys)}",
            "",
        )
    if kind == "missing":
        return f"{spot.entry}: {spot.names[-1]} is missing", ""
    if kind.startswith("union_tag"):
        name = context["discriminator"].strip("'")
        known = [
            tag for owner in spot.owners for tag in get_args(owner.model_fields[name].annotation)
        ]
        tag = context.get("tag", "")
        said = (
            f"unknown {name} {tag!r}{did_you_mean(str(tag), known)}"
            if "tag" in context
            else f"{name} is missing"
        )
        return f"{spot.whole}: {said}; it is one of {', '.join(known)}", ""
    message = re.sub(r"^\w+ should ", "should ", detail["msg"]).removeprefix("Value error, ")
    if not message.startswith("should "):
        return f"{spot.whole}: ", message
    for theirs, ours in OUR_WORDS.items():
        message = message.replace(theirs, ours)
    bounds = spot.bounds
    if bounds and not (len(bounds) == 1 and next(iter(context), "") in BOUNDS):
        message += f" (allowed: {' and '.join(bounds)})"
    value = repr(detail["input"])
    value = value if len(value) <= 60 else value[:59] + "…"
    return f"{spot.whole} is {value}, but should ", message.removeprefix("should ")


def _worth_telling(found: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Less what only follows from another mistake: a misspelt key leaves one missing, a bad item its list short."""
    extra = [
        (detail["loc"][:-1], str(detail["loc"][-1]))
        for detail in found
        if detail["type"] == "extra_forbidden"
    ]
    for detail in found:
        place, name = detail["loc"][:-1], str(detail["loc"][-1]) if detail["loc"] else ""
        misspelt = any(get_close_matches(key, [name]) for spot, key in extra if spot == place)
        if detail["type"] == "missing" and misspelt:
            continue
        if detail["type"] == "too_short" and detail["input"]:
            inside = [
                d
                for d in found
                if d["loc"][: len(detail["loc"])] == detail["loc"] and d is not detail
            ]
            if inside:
                continue
        yield detail


def _models_inside(models: Sequence[type[BaseModel]], field: str) -> tuple[type[BaseModel], ...]:
    """Models that a field may hold, however deep in lists and unions; as they were where it is a name of a mapping."""
    fields = [model.model_fields[field] for model in models if field in model.model_fields]
    return (
        tuple(found for one in fields for found in _models_of(one.annotation))
        if fields
        else tuple(models)
    )


def _models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_of(part)


def _tags(model: type[BaseModel]) -> set[Any]:
    """Every word that a `Literal` field of the model takes: the discriminator's is among them."""
    return {
        tag
        for field in model.model_fields.values()
        for tag in get_args(field.annotation)
        if isinstance(tag, str)
    }
