"""A recipe: one run's whole configuration, from a YAML file and `--set a.b=c`.

name: mine
base: ..                        # folder that relative paths start from; default: the recipe file's own
backbone: OpenGVLab/...-HF      # the VLM that is trained later; need not be the one that makes the features
runtime: {workers: 2}
sources: [{name: ..., role: pool, format: llava, path: ...}, ...]
embed: {encoder: vlm, model: ...}
estimator.learned: {}           # `stage` or `stage.name`: several instances of a stage live side by side
estimator.short: {steps: 50}
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

from emt_core.errors import EmtError
from emt_core.flow import STAGES
from emt_core.recipe.base import Frozen, Runtime, StageConfig
from emt_core.recipe.demos import DemosConfig
from emt_core.recipe.embed import EmbedConfig, GapConfig
from emt_core.recipe.evaluate import EvaluateConfig
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.recipe.midtrain import MidtrainConfig, RetainConfig
from emt_core.recipe.mistakes import did_you_mean, explain, yaml_problem
from emt_core.recipe.proximity import MEASURES, EstimatorConfig, MeasureBase, ScoreConfig
from emt_core.recipe.selection import CategoryConfig, SelectConfig
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

    file: Path | None = Field(default=None, repr=False)
    """Absolute path of the file it was read from."""

    overrides: tuple[str, ...] = Field(default=(), repr=False)
    """The `--set` items that were laid over the file."""


TRAINS_BACKBONE = ("midtrain", "finetune", "retain")
"""Stages whose `model` is the recipe's backbone where they name none."""

SHIPPED = ROOT / "recipes"

TOP_LEVEL = {"name", "base", "backbone", "runtime", "arms", "seeds", "vary"}


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe file. Raises EmtError that names the field, its place and what is allowed."""
    path, items = find_recipe(path), list(overrides)
    raw = _read(path)
    try:
        recipe = build_recipe(apply_overrides(raw, parse_overrides(items)), where=path)
        return recipe.model_copy(update={"file": path.resolve(), "overrides": tuple(items)})
    except EmtError as error:
        if not items or error.where != str(path):
            raise
        build_recipe(
            raw, where=path
        )  # wrong without them too: then the file is what has to be mended
        guilty = [item for item in items if not _holds(raw, item)] or items
        said = ", ".join(f"--set {item}" for item in guilty)
        raise EmtError(error.what, where=said, remedy=error.remedy) from error


def _holds(raw: Mapping[str, Any], item: str) -> bool:
    """Whether the recipe is right with this one override."""
    try:
        build_recipe(apply_overrides(raw, parse_overrides([item])))
    except EmtError:
        return False
    return True


def find_recipe(path: str | Path) -> Path:
    """The file that a recipe argument means: the file itself, or one that comes with the product (`demo`).

    Raises EmtError where there is neither, with the names that there are.
    """
    path = Path(path).expanduser()
    shipped = SHIPPED / f"{path}.yaml"
    if path.is_file():
        return path
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
    """The file that `extends: NAME` means: beside the file that says so, else one that comes with the product."""
    for found in (by.parent / name, SHIPPED / name, SHIPPED / f"{name}.yaml"):
        if found.is_file():
            return found
    known = [f"{stem}.yaml" for stem in shipped_names()]
    raise EmtError(
        f"there is no such recipe file to extend: {by.parent / name}{did_you_mean(name, known)}",
        where=f"`extends: {name}` in {by}",
        remedy=f"name a file, its path starting from this one's folder, or one that comes with the product: "
        f"{', '.join(known)}",
    )


def _read(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A recipe file as one mapping with an absolute base, whatever it extends already laid under it."""
    if path.resolve() in extended_by:
        raise EmtError(
            "this recipe extends itself", where=path, remedy="break the circle of `extends`"
        )
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise EmtError(
            f"the recipe is not valid YAML: {yaml_problem(error)}",
            where=path,
            remedy="look at that line and the one before: a bracket or quote left open, or a tab among the blanks",
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
        below = _read(_extended(str(parent), path), (*extended_by, path.resolve()))
    if "base" in raw or "base" not in below:
        raw["base"] = str((path.parent / str(raw.get("base") or ".")).resolve())
    return {**below, "name": path.stem, **raw}


def parse_overrides(items: Iterable[str]) -> dict[str, Any]:
    """`["embed.pooling=last", "select.top.k=500"]` -> {...}; values are YAML."""
    found = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name.strip():
            raise EmtError(
                f"--set {item!r} is not of the form a.b=value",
                remedy="for example --set select.quarter.fraction=0.5",
            )
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise EmtError(
                f"the value is not valid YAML: {yaml_problem(error)}",
                where=f"--set {item}",
                remedy="close its brackets and quotes, and put the whole in quotes for the shell: --set 'seeds=[0, 1]'",
            ) from error
    return found


def apply_overrides(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Lay dotted settings over a raw recipe; `select.top.k` finds instance `select.top` before stage `select`.

    A whole entry (`select.new={k: 3}`) makes an instance that the recipe does not have; a setting of one
    (`select.new.k=3`) raises EmtError, because a misspelt name would start work of its own.
    """
    out = deepcopy(dict(raw))
    for dotted, value in overrides.items():
        head = _entry_of(dotted, value, out)
        if head == dotted:
            out[dotted] = value
            continue
        rest = (
            dotted[len(head) + 1 :] if dotted.startswith(head + ".") else dotted.partition(".")[2]
        )
        spot, names = out, [head, *rest.split(".")]
        for name in names[:-1]:
            if isinstance(spot, list):
                spot = _item_of(spot, name, dotted)
                continue
            if not isinstance(spot.get(name), dict | list):
                spot[name] = {}
            spot = spot[name]
        if isinstance(spot, list):
            raise EmtError(
                f"the setting {dotted}: name a field of the entry",
                remedy="for example sources.NAME.path=...",
            )
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
    settings = [] if stage in TOP_LEVEL or stage == "sources" else [*field_names(stage), "parents"]
    if settings and field not in settings:
        if "." in rest:
            near = did_you_mean(field, [*(entry.partition(".")[2] for entry in named), *settings])
            there = ", ".join(entry for entry in raw if entry == stage or entry in named)
            raise EmtError(
                f"the recipe has no {stage}.{field}{near}",
                where=f"the setting {dotted}",
                remedy=f"it has {there or f'no {stage}'}; a new one is made in the recipe file, by its own entry",
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
    for entry in entries:
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry
    names = [entry.get("name") for entry in entries if isinstance(entry, dict)]
    raise EmtError(
        f"the setting {dotted}: there is no entry named {name!r}", remedy=f"the entries are {names}"
    )


def build_recipe(raw: Mapping[str, Any], *, where: object = "") -> Recipe:
    """Check a raw recipe and turn it into frozen models."""
    instances = []
    for label, body in raw.items():
        if label in TOP_LEVEL:
            continue
        stage, _, name = str(label).partition(".")
        if stage not in STAGES:
            known = [*sorted(TOP_LEVEL), "extends", *STAGES]
            raise EmtError(
                f"the recipe has an unknown entry {label!r}{did_you_mean(stage, known)}",
                where=where,
                remedy=f"known: {', '.join(known)}",
            )
        bare = stage == "sources" and not (isinstance(body, dict) and "sources" in body)
        settings = {"sources": body} if bare else body or {}
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
            instances.append(InstanceConfig(stage=stage, name=name, config=config, parents=parents))
        except ValidationError as error:
            raise explain(error, str(label), model, fields, where) from error
    top = {name: raw[name] for name in TOP_LEVEL if name in raw}
    try:
        recipe = Recipe(instances=tuple(instances), raw=dict(raw), **top)
    except ValidationError as error:
        raise explain(error, "", Recipe, top, where) from error
    _check_sources(recipe, where)
    return recipe


def _check_sources(recipe: Recipe, where: object) -> None:
    for instance in recipe.instances:
        if instance.stage == "sources":
            names = [source.name for source in instance.config.sources]  # type: ignore[attr-defined]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise EmtError(
                    f"two sources are named {sorted(twice)}",
                    where=where,
                    remedy="names become sample ids",
                )


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, with an absolute base: what a workspace keeps and an app edits."""
    return yaml.safe_dump(recipe.raw, sort_keys=False, allow_unicode=True)
