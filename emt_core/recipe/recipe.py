"""A recipe: one run's whole configuration, from a YAML file and `--set a.b=c`.

name: mine
base: ..                    # folder that relative paths start from; default: the recipe file's
backbone: OpenGVLab/...-HF  # the VLM that is trained later; the encoder may be another one
runtime: {workers: 2}
sources: [{name: ..., role: pool, format: llava, path: ...}, ...]
embed: {encoder: vlm, model: ...}
estimator.learned: {}       # `stage` or `stage.name`: a stage may have several instances
estimator.short: {steps: 50}
select.top: {k: 1000, parents: {score: learned}}
arms: {learned: {}, random: {select.top.strategy: random}}  # an experiment: arms x seeds
seeds: [0, 1]
extends: demo.yaml          # the entries of another recipe; each one given here replaces it whole
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from emt_core.errors import EmtError
from emt_core.flow import STAGES
from emt_core.recipe.base import Frozen, Runtime, StageConfig
from emt_core.recipe.category import CategoryConfig
from emt_core.recipe.demos import DemosConfig
from emt_core.recipe.embed import EmbedConfig
from emt_core.recipe.evaluate import EvaluateConfig
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.recipe.gap import GapConfig
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.recipe.mistakes import did_you_mean, explain, yaml_problem
from emt_core.recipe.probe import ProbeConfig
from emt_core.recipe.proximity import MEASURES, EstimatorConfig, MeasureBase, ScoreConfig
from emt_core.recipe.retain import RetainConfig
from emt_core.recipe.selection import SelectConfig
from emt_core.recipe.shipped import ROOT
from emt_core.recipe.sources import SourcesConfig
from emt_core.recipe.trust import TrustConfig

CONFIGS: dict[str, type[StageConfig]] = {
    "sources": SourcesConfig,
    "embed": EmbedConfig,
    "category": CategoryConfig,
    "gap": GapConfig,
    "estimator": EstimatorConfig,
    "measure": MeasureBase,
    "score": ScoreConfig,
    "trust": TrustConfig,
    "select": SelectConfig,
    "midtrain": MidtrainConfig,
    "probe": ProbeConfig,
    "retain": RetainConfig,
    "demos": DemosConfig,
    "evaluate": EvaluateConfig,
    "finetune": FinetuneConfig,
}
"""Stage -> the model of its settings; of `measure` only what all kinds have in common."""


def config_model(stage: str, settings: Mapping[str, Any]) -> type[StageConfig]:
    """The model that checks these settings of a stage: of a measure, the one of its kind."""
    if stage == "measure":
        return MEASURES.get(str(settings.get("kind")), MeasureBase)
    return CONFIGS[stage]


def field_names(stage: str) -> list[str]:
    """Every setting that an entry of the stage can have, whatever its kind."""
    models = [CONFIGS[stage], *(MEASURES.values() if stage == "measure" else ())]
    return list(dict.fromkeys(name for model in models for name in model.model_fields))


class InstanceConfig(Frozen):
    """One named instance of a stage, before its parents are resolved."""

    stage: str
    name: str = ""
    config: StageConfig
    parents: dict[str, str] = {}
    """Stage -> name of the instance that feeds this one, where the names alone do not say."""

    @property
    def label(self) -> str:
        return f"{self.stage}.{self.name}" if self.name else self.stage


class Recipe(Frozen):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    """Letters, digits, `_` and `-`: it names a file of the workspace."""

    base: Path
    """Absolute folder that relative paths start from."""

    backbone: str = ""
    """The VLM that midtrain trains and export writes a file for; the encoder has its own."""

    runtime: Runtime = Runtime()
    """How and where to run; enters no key."""

    instances: tuple[InstanceConfig, ...]
    arms: dict[str, dict[str, Any]] = {}
    """An experiment's arms: for each, dotted settings laid over the recipe."""

    seeds: tuple[int, ...] = ()
    """An experiment's seeds: each arm is expanded once for each."""

    vary: tuple[str, ...] = (
        *("estimator", "measure", "select"),
        *("midtrain", "finetune", "evaluate"),
    )
    """Stages whose seed follows the experiment's seeds; all others are shared. By default all that
    a repetition of the method would draw anew; what is left out has no part in an interval."""

    raw: dict[str, Any] = Field(default={}, repr=False)
    """The YAML as read, overrides applied: what arms are laid over and the workspace keeps."""

    file: Path | None = Field(default=None, repr=False)
    """Absolute path of the file it was read from."""

    overrides: tuple[str, ...] = Field(default=(), repr=False)
    """The `--set` items that were laid over the file."""


TRAINS_BACKBONE = ("midtrain", "probe", "finetune", "retain")
"""Stages whose `model` is the recipe's backbone where they name none."""

SHIPPED = ROOT / "recipes"
"""Folder of the recipes that come with the product."""

TOP_LEVEL = {"name", "base", "backbone", "runtime", "arms", "seeds", "vary"}
"""Entries of a recipe that are not instances of a stage."""


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe file. Raises EmtError that names the field, its place and what is allowed."""
    path = find_recipe(path)
    items = list(overrides)
    raw = read_raw(path)
    try:
        recipe = build_recipe(apply_overrides(raw, parse_overrides(items)), where=path)
        return recipe.model_copy(update={"file": path.resolve(), "overrides": tuple(items)})
    except EmtError as error:
        if not items or error.where != str(path):
            raise
        build_recipe(raw, where=path)  # raises where the file itself is wrong
        guilty = [item for item in items if not _is_valid_with(raw, item)] or items
        where = ", ".join(f"--set {item}" for item in guilty)
        raise EmtError(error.what, where=where, remedy=error.remedy) from error


def _is_valid_with(raw: Mapping[str, Any], item: str) -> bool:
    """Whether the recipe is valid with this one override."""
    try:
        build_recipe(apply_overrides(raw, parse_overrides([item])))
    except EmtError:
        return False
    return True


def find_recipe(path: str | Path) -> Path:
    """The file of a recipe argument: the file itself, or one that comes with the product (`demo`).

    Raises EmtError where there is neither, with the names that there are.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    shipped = SHIPPED / f"{path}.yaml"
    if not path.suffix and shipped.is_file():
        return shipped
    known = shipped_names()
    raise EmtError(
        f"there is no such recipe file{did_you_mean(path.stem, known)}",
        where=path,
        remedy=f"name a .yaml file, or one that comes with the product: {', '.join(known)}",
    )


def shipped_names() -> list[str]:
    return sorted(file.stem for file in SHIPPED.glob("*.yaml"))


def _extended(name: str, by: Path) -> Path:
    """The file of `extends: NAME`: beside the recipe that says so, else one that is shipped."""
    for file in (by.parent / name, SHIPPED / name, SHIPPED / f"{name}.yaml"):
        if file.is_file():
            return file
    known = [f"{stem}.yaml" for stem in shipped_names()]
    raise EmtError(
        f"there is no such recipe file to extend: {by.parent / name}{did_you_mean(name, known)}",
        where=f"`extends: {name}` in {by}",
        remedy="name a file, its path starting from this one's folder, or one that comes with the "
        f"product: {', '.join(known)}",
    )


def read_raw(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A recipe file as one mapping with an absolute base, laid over what it extends.

    Raises EmtError where it cannot be read or is no mapping; its settings are not checked.
    """
    if path.resolve() in extended_by:
        raise EmtError(
            "this recipe extends itself", where=path, remedy="break the circle of `extends`"
        )
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EmtError("the recipe cannot be read", where=path) from error
    except yaml.YAMLError as error:
        raise EmtError(
            f"the recipe is not valid YAML: {yaml_problem(error)}",
            where=path,
            remedy="look at that line and the one before: a bracket or quote left open, or a tab "
            "among the blanks",
        ) from error
    except UnicodeDecodeError as error:
        raise EmtError(
            f"the recipe is not UTF-8 text: {error}", where=path, remedy="save it as UTF-8"
        ) from error
    if not isinstance(raw, dict):
        raise EmtError(
            "a recipe is a mapping of names to settings", where=path, remedy="see recipes/demo.yaml"
        )
    below: dict[str, Any] = {}
    if (parent := raw.pop("extends", None)) is not None:
        below = read_raw(_extended(str(parent), path), (*extended_by, path.resolve()))
    if "base" in raw or "base" not in below:
        raw["base"] = str((path.parent / str(raw.get("base") or ".")).resolve())
    return {**below, "name": path.stem, **raw}


def parse_overrides(items: Iterable[str]) -> dict[str, Any]:
    """`["embed.pooling=last", "select.top.k=500"]` -> {...}; values are YAML."""
    overrides = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name.strip():
            raise EmtError(
                f"--set {item!r} is not of the form a.b=value",
                remedy="for example --set select.quarter.fraction=0.5",
            )
        try:
            overrides[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise EmtError(
                f"the value is not valid YAML: {yaml_problem(error)}",
                where=f"--set {item}",
                remedy="close its brackets and quotes, and put the whole in quotes for the shell: "
                "--set 'seeds=[0, 1]'",
            ) from error
    return overrides


def apply_overrides(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Lay dotted settings over a raw recipe; `select.top.k` finds instance `select.top` first.

    A whole entry (`select.new={k: 3}`) makes an instance that the recipe does not have. A setting
    of one (`select.new.k=3`) raises EmtError: a misspelt name would start work of its own.
    """
    result = deepcopy(dict(raw))
    for dotted, value in overrides.items():
        entry = _entry_of(dotted, value, result)
        if entry == dotted:
            result[dotted] = value
            continue
        # `select.k` may mean the entry `select.top`, the only one of its stage
        inside = dotted.startswith(entry + ".")
        rest = dotted[len(entry) + 1 :] if inside else dotted.partition(".")[2]
        *names, last = [entry, *rest.split(".")]
        holder: Any = result
        for name in names:
            if isinstance(holder, list):
                holder = _item_of(holder, name, dotted)
                continue
            if not isinstance(holder.get(name), dict | list):
                holder[name] = {}
            holder = holder[name]
        if isinstance(holder, list):
            raise EmtError(
                f"the setting {dotted}: name a field of the entry",
                remedy="for example sources.NAME.path=...",
            )
        holder[last] = value
    return result


def _entry_of(dotted: str, value: Any, raw: Mapping[str, Any]) -> str:
    """The recipe's entry that a dotted setting belongs to; the setting itself where it is one."""
    stage, _, rest = dotted.partition(".")
    if dotted in raw or not rest or (stage not in STAGES and stage not in TOP_LEVEL):
        return dotted
    named = [entry for entry in raw if entry.startswith(stage + ".")]
    around = [entry for entry in named if dotted.startswith(entry + ".")]
    if around:
        return max(around, key=len)
    field = rest.partition(".")[0]
    settings = [] if stage in TOP_LEVEL or stage == "sources" else [*field_names(stage), "parents"]
    if settings and field not in settings:
        if "." in rest:
            near = did_you_mean(field, [*(entry.partition(".")[2] for entry in named), *settings])
            known = ", ".join(entry for entry in raw if entry == stage or entry in named)
            raise EmtError(
                f"the recipe has no {stage}.{field}{near}",
                where=f"the setting {dotted}",
                remedy=f"it has {known or f'no {stage}'}; a new one is made in the recipe file, "
                "by its own entry",
            )
        if isinstance(value, dict):
            return dotted
    if stage in raw:
        return stage
    if len(named) > 1:
        raise EmtError(
            f"the setting {dotted}: the recipe has {', '.join(named)}",
            remedy=f"say which: {named[0]}.{rest}=...",
        )
    return named[0] if named else stage


def _item_of(entries: list[Any], name: str, dotted: str) -> Any:
    known = {entry.get("name"): entry for entry in entries if isinstance(entry, dict)}
    if name not in known:
        raise EmtError(
            f"the setting {dotted}: there is no entry named {name!r}",
            remedy=f"the entries are {list(known)}",
        )
    return known[name]


def build_recipe(raw: Mapping[str, Any], *, where: object = "") -> Recipe:
    """Check a raw recipe and turn it into frozen models.

    Raises EmtError with all mistakes of the first entry that has any.
    """
    instances = [
        _build_instance(str(label), body, raw, where)
        for label, body in raw.items()
        if label not in TOP_LEVEL
    ]
    top = {name: raw[name] for name in TOP_LEVEL if name in raw}
    try:
        recipe = Recipe(instances=tuple(instances), raw=dict(raw), **top)
    except ValidationError as error:
        raise explain(error, "", Recipe, top, where) from error
    _check_sources(recipe, where)
    return recipe


def _build_instance(label: str, body: Any, raw: Mapping[str, Any], where: object) -> InstanceConfig:
    stage, _, name = label.partition(".")
    if stage not in STAGES:
        known = [*sorted(TOP_LEVEL), "extends", *STAGES]
        raise EmtError(
            f"the recipe has an unknown entry {label!r}{did_you_mean(stage, known)}",
            where=where,
            remedy=f"known: {', '.join(known)}",
        )
    bare_list = stage == "sources" and not (isinstance(body, dict) and "sources" in body)
    settings = {"sources": body} if bare_list else body or {}
    if not isinstance(settings, dict):
        raise EmtError(
            f"{label!r} has to be a mapping of settings, not {type(body).__name__}",
            where=where,
            remedy=f"fields here: {', '.join(sorted(field_names(stage)))}",
        )
    fields: dict[str, Any] = dict(settings)
    parents = fields.pop("parents", {})
    if stage in TRAINS_BACKBONE and not fields.get("model"):
        fields["model"] = str(raw.get("backbone") or "")
    model = config_model(stage, fields)
    try:
        config = model.model_validate(fields)
        return InstanceConfig(stage=stage, name=name, config=config, parents=parents)
    except ValidationError as error:
        raise explain(error, label, model, fields, where) from error


def _check_sources(recipe: Recipe, where: object) -> None:
    for instance in recipe.instances:
        if isinstance(instance.config, SourcesConfig):
            names = [source.name for source in instance.config.sources]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise EmtError(
                    f"two sources are named {sorted(twice)}",
                    where=where,
                    remedy="names become sample ids",
                )


def dump_recipe(raw: Mapping[str, Any]) -> str:
    """A raw recipe as YAML: what a workspace keeps and pages edit."""
    return yaml.safe_dump(dict(raw), sort_keys=False, allow_unicode=True)
