"""A recipe: one run's whole configuration, from a YAML file and `--set a.b=c`.

name: mine
base: ..                        # folder that relative paths start from; default: the recipe file's own
backbone: OpenGVLab/...-HF      # the VLM that is trained later; need not be the one that makes the features
runtime: {workers: 2}
sources: [{name: ..., role: pool, format: llava, path: ...}, ...]
embed: {encoder: vlm, model: ...}
estimator.learned: {}           # `stage` or `stage.name`: several instances of a stage live side by side
estimator.short: {max_steps: 50}
select.top: {k: 1000, parents: {score: learned}}
arms: {learned: {}, random: {select.top.strategy: random}}     # an experiment: arms x seeds
seeds: [0, 1]
extends: demo.yaml              # another recipe's entries, but for those given here (each replaced as a whole)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from emt_core.configs import CONFIGS
from emt_core.errors import EmtError
from emt_core.flow import STAGES
from emt_core.source_config import Frozen
from emt_core.stage_config import Runtime, StageConfig


class InstanceConfig(Frozen):
    """One named instance of a stage, before its parents are resolved."""

    stage: str
    name: str = ""
    config: StageConfig
    parents: dict[str, str] = {}
    """Which instance of a parent stage feeds this one, where that is not plain from the names."""

    @property
    def label(self) -> str:
        return f"{self.stage}.{self.name}" if self.name else self.stage


class Recipe(Frozen):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    """Letters, digits, `_` and `-`: it names a file of the workspace."""

    base: Path
    """Absolute folder that relative paths start from."""

    backbone: str = ""
    """The VLM that midtrain trains and export writes a training file for; separate from the encoder's model."""

    runtime: Runtime = Runtime()
    """How and where to run; enters no key."""

    instances: tuple[InstanceConfig, ...]
    arms: dict[str, dict[str, Any]] = {}
    """An experiment's arms: for each, dotted settings laid over the recipe."""

    seeds: tuple[int, ...] = ()
    """An experiment's seeds: each arm is expanded once for each."""

    vary: tuple[str, ...] = ("select", "midtrain", "finetune", "evaluate")
    """Stages whose seed follows the experiment's seeds; all others are shared."""

    raw: dict[str, Any] = Field(default={}, repr=False)
    """The YAML as read, overrides applied: what arms are laid over and what the workspace keeps."""


TRAINS_BACKBONE = ("midtrain", "finetune", "retain")
"""Stages whose `model` is the recipe's backbone where they name none."""

SHIPPED = Path(__file__).parents[1] / "recipes"

TOP_LEVEL = {"name", "base", "backbone", "runtime", "arms", "seeds", "vary"}


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe file. Raises EmtError that names the field, its place and what is allowed."""
    path = Path(path).expanduser()
    shipped = SHIPPED / f"{path}.yaml"
    if not path.exists() and not path.suffix and shipped.is_file():  # `emt run demo`
        path = shipped
    return build_recipe(apply_overrides(_read(path), parse_overrides(overrides)), where=path)


def _read(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A recipe file as one mapping with an absolute base, whatever it extends already laid under it."""
    if not path.is_file():
        raise EmtError("there is no such recipe file", where=path, remedy="name a .yaml file; recipes/ has examples")
    if path.resolve() in extended_by:
        raise EmtError("this recipe extends itself", where=path, remedy="break the circle of `extends`")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise EmtError(f"the recipe is not valid YAML: {error}", where=path) from error
    if not isinstance(raw, dict):
        raise EmtError("a recipe is a mapping of names to settings", where=path, remedy="see recipes/demo.yaml")
    below: dict[str, Any] = {}
    if (parent := raw.pop("extends", None)) is not None:
        below = _read(path.parent / str(parent), (*extended_by, path.resolve()))
    if "base" in raw or "base" not in below:
        raw["base"] = str((path.parent / str(raw.get("base") or ".")).resolve())
    return {**below, "name": path.stem, **raw}


def parse_overrides(items: Iterable[str]) -> dict[str, Any]:
    """`["embed.pooling=last", "select.top.k=500"]` -> {...}; values are YAML."""
    found = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name.strip():
            raise EmtError(f"--set {item!r} is not of the form a.b=value", remedy="for example --set select.k=500")
        found[name.strip()] = yaml.safe_load(value)
    return found


def apply_overrides(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Lay dotted settings over a raw recipe; `select.top.k` finds instance `select.top` before stage `select`."""
    out = deepcopy(dict(raw))
    for dotted, value in overrides.items():
        head = _entry_of(dotted, value, out)
        if head == dotted:
            out[dotted] = value
            continue
        rest = dotted[len(head) + 1 :] if dotted.startswith(head + ".") else dotted.partition(".")[2]
        spot, names = out, [head, *rest.split(".")]
        for name in names[:-1]:
            if isinstance(spot, list):
                spot = _item_of(spot, name, dotted)
                continue
            if not isinstance(spot.get(name), dict | list):
                spot[name] = {}
            spot = spot[name]
        if isinstance(spot, list):
            raise EmtError(f"--set {dotted}: name a field of the entry", remedy="for example sources.NAME.path=...")
        spot[names[-1]] = value
    return out


def _entry_of(dotted: str, value: Any, raw: Mapping[str, Any]) -> str:
    """The recipe's entry that a dotted setting belongs to (the setting itself where it is an entry)."""
    stage, _, rest = dotted.partition(".")
    if dotted in raw or not rest or (stage not in STAGES and stage not in TOP_LEVEL):
        return dotted
    named = [entry for entry in raw if entry.startswith(stage + ".")]
    inside = [entry for entry in named if dotted.startswith(entry + ".")]
    if inside:
        return max(inside, key=len)
    field = rest.partition(".")[0]
    known = stage not in CONFIGS or stage == "sources" or field in {*CONFIGS[stage].model_fields, "parents"}
    if not known and ("." in rest or isinstance(value, dict)):
        return f"{stage}.{field}"  # a setting of an instance that the recipe does not have yet
    if stage in raw:
        return stage
    if len(named) > 1:
        raise EmtError(
            f"--set {dotted}: the recipe has {', '.join(named)}", remedy=f"say which: --set {named[0]}.{rest}=..."
        )
    return named[0] if named else stage


def _item_of(entries: list[Any], name: str, dotted: str) -> Any:
    for entry in entries:
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry
    names = [entry.get("name") for entry in entries if isinstance(entry, dict)]
    raise EmtError(f"--set {dotted}: there is no entry named {name!r}", remedy=f"the entries are {names}")


def build_recipe(raw: Mapping[str, Any], *, where: object = "") -> Recipe:
    """Check a raw recipe and turn it into frozen models."""
    instances = []
    for label, body in raw.items():
        if label in TOP_LEVEL:
            continue
        stage, _, name = str(label).partition(".")
        if stage not in STAGES:
            known = sorted({*STAGES, *TOP_LEVEL})
            raise EmtError(
                f"the recipe has an unknown entry {label!r}", where=where, remedy=f"known: {', '.join(known)}"
            )
        settings = {"sources": body} if stage == "sources" and isinstance(body, list) else body or {}
        if not isinstance(settings, dict):
            raise EmtError(
                f"{label!r} has to be a mapping of settings, not {type(body).__name__}",
                where=where,
                remedy=f"fields here: {', '.join(sorted(CONFIGS[stage].model_fields))}",
            )
        fields: dict[str, Any] = dict(settings)
        parents = fields.pop("parents", {})
        if stage in TRAINS_BACKBONE and not fields.get("model"):
            fields["model"] = str(raw.get("backbone") or "")
        try:
            config = CONFIGS[stage].model_validate(fields)
            instances.append(InstanceConfig(stage=stage, name=name, config=config, parents=parents))
        except ValidationError as error:
            raise _explain(error, label, CONFIGS[stage], where) from error
    top = {name: raw[name] for name in TOP_LEVEL if name in raw}
    try:
        recipe = Recipe(instances=tuple(instances), raw=dict(raw), **top)
    except ValidationError as error:
        raise _explain(error, "", Recipe, where) from error
    _check_sources(recipe, where)
    return recipe


def _explain(error: ValidationError, label: str, model: type[Frozen], where: object) -> EmtError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in (label, *first["loc"]) if part != "")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    remedy = ""
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        remedy = f"fields here: {', '.join(sorted(model.model_fields))}"
    elif first["type"] == "union_tag_invalid":
        remedy = f"formats: {first.get('ctx', {}).get('expected_tags')}"
    message = first["msg"].removeprefix("Value error, ")
    return EmtError(f"recipe field {field}: {message}{more}", where=where, remedy=remedy)


def _check_sources(recipe: Recipe, where: object) -> None:
    for instance in recipe.instances:
        if instance.stage == "sources":
            names = [source.name for source in instance.config.sources]  # type: ignore[attr-defined]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise EmtError(f"two sources are named {sorted(twice)}", where=where, remedy="names become sample ids")


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, with an absolute base: what a workspace keeps and an app edits."""
    return yaml.safe_dump(recipe.raw, sort_keys=False, allow_unicode=True)
