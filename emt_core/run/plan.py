"""From a recipe to a graph of keyed instances: parents resolved, arms x seeds expanded, equal work merged."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from emt_core.errors import EmtError
from emt_core.flow import FLOW, STAGES, Stage
from emt_core.recipe.base import StageConfig
from emt_core.recipe.recipe import InstanceConfig, Recipe, apply_overrides, build_recipe
from emt_core.workspace.artifact import make_key


def stage_module(stage: str) -> ModuleType:
    """The file emt_core/stages/<stage>.py. Importing it loads no torch."""
    return importlib.import_module(f"emt_core.stages.{stage}")


@dataclass(frozen=True)
class Instance:
    """One artifact to be: a stage with its config and the instances that feed it."""

    stage: str
    config: StageConfig
    identity: Any
    """Facts beyond the config that determine the output: fingerprints of inputs, hash of a model's files."""

    parents: Mapping[str, Instance]
    """By stage; further instances of a stage (StageConfig.further) by `stage.name`."""

    key: str
    labels: list[str] = field(default_factory=list, compare=False)
    """Every name under which the recipe knows it: `select.top`, or `select.top@random/0` for an arm and seed."""

    @property
    def label(self) -> str:
        return self.labels[0]


@dataclass(frozen=True)
class Plan:
    recipe: Recipe
    instances: tuple[Instance, ...]
    """In an order in which every instance follows its parents."""

    def get(self, label: str) -> Instance:
        """The instance of that label; a stage's bare name finds its only instance."""
        named = [i for i in self.instances if label in i.labels]
        found = named or [i for i in self.instances if i.stage == label]
        if len(found) == 1:
            return found[0]
        known = [name for i in self.instances for name in i.labels]
        problem = "is ambiguous in" if found else "is not in"
        raise EmtError(
            f"{label!r} {problem} recipe {self.recipe.name!r}", remedy=f"it has: {', '.join(known)}"
        )

    def of_stage(self, stage: str) -> list[Instance]:
        return [i for i in self.instances if i.stage == stage]


def make_plan(recipe: Recipe) -> Plan:
    """Resolve a recipe. Reads fingerprints of the inputs, so a missing file shows here as EmtError."""
    merged: dict[tuple[str, str], Instance] = {}
    identities: dict[str, Any] = {}
    order = {stage.name: place for place, stage in enumerate(FLOW)}
    idle: dict[str, list[str]] = {}
    for suffix, variant in _variants(recipe):
        done = _resolve(variant, merged, identities)
        leading = _leading(done.values(), order)
        for label, instance in done.items():
            names = (
                instance.labels if instance.key in leading else idle.setdefault(instance.key, [])
            )
            names.append(label + suffix)
    variants = max(len(recipe.arms), 1) * max(len(recipe.seeds), 1)
    for instance in merged.values():
        instance.labels[:] = _tidy_labels(instance.labels + idle.get(instance.key, []), variants)
    return Plan(recipe, tuple(sorted(merged.values(), key=lambda i: order[i.stage])))


def _leading(instances: Collection[Instance], order: Mapping[str, int]) -> set[str]:
    """Keys of what an arm's last stage hangs on, itself included.

    A shared instance goes first by the name of an arm that needs it: the mid-training of `learned` is part of the arm
    `none` as well, where nothing starts from it.
    """
    last = max((order[i.stage] for i in instances), default=0)
    open_, found = [i for i in instances if order[i.stage] == last], set[str]()
    while open_:
        instance = open_.pop()
        if instance.key not in found:
            found.add(instance.key)
            open_ += instance.parents.values()
    return found


def _tidy_labels(labels: list[str], variants: int) -> list[str]:
    """An instance that every arm and seed shares goes by its plain name."""
    with_suffix = [name for name in labels if "@" in name]
    if not with_suffix:
        return list(dict.fromkeys(labels))
    plain = list(dict.fromkeys(name.split("@")[0] for name in with_suffix))
    whole = [
        name
        for name in plain
        if sum(full.split("@")[0] == name for full in with_suffix) == variants
    ]
    return whole + [name for name in with_suffix if name.split("@")[0] not in whole]


def _variants(recipe: Recipe) -> Iterable[tuple[str, Recipe]]:
    """(label suffix, recipe) for each arm and seed; one with an empty suffix where the recipe is no experiment."""
    if not recipe.arms and not recipe.seeds:
        yield "", recipe
        return
    for arm, changes in (recipe.arms or {"all": {}}).items():
        for seed in recipe.seeds or (None,):
            raw = {k: v for k, v in recipe.raw.items() if k not in ("arms", "seeds")}
            raw = apply_overrides(raw, changes)
            if seed is not None:
                seeded = [label for label in raw if _takes_seed(label, recipe.vary)]
                raw = apply_overrides(raw, {f"{label}.seed": seed for label in seeded})
            suffix = f"@{arm}" + (f"/{seed}" if seed is not None else "")
            yield suffix, build_recipe(raw, where=f"arm {arm!r}")


def _takes_seed(label: str, vary: tuple[str, ...]) -> bool:
    stage = label.partition(".")[0]
    return stage in vary and stage in STAGES and STAGES[stage].seeded


def _resolve(
    recipe: Recipe, merged: dict[tuple[str, str], Instance], identities: dict[str, Any]
) -> dict[str, Instance]:
    """The recipe's instances by label; equal work is the same object, whichever arm or name asks for it."""
    done: dict[str, Instance] = {}
    for stage in FLOW:
        for spec in (i for i in recipe.instances if i.stage == stage.name):
            wanted = (*stage.needs, *spec.config.uses(), *_choose_one(stage, spec, done))
            unknown = set(spec.parents) - {*stage.needs, *stage.may_use, *stage.one_of}
            if unknown:
                raise EmtError(
                    f"{spec.label} names parents {sorted(unknown)} that stage {stage.name!r} does not take",
                    remedy=f"its parents are {', '.join((*stage.needs, *stage.may_use, *stage.one_of)) or 'none'}",
                )
            parents = {name: done[_choose_parent(spec, name, done)] for name in wanted}
            parents |= {
                name: done[_further_parent(spec, name, done)] for name in spec.config.further()
            }
            instance = _instance(spec, parents, recipe, identities)
            done[spec.label] = merged.setdefault((instance.stage, instance.key), instance)
    return done


def _choose_one(
    stage: Stage, spec: InstanceConfig, done: Mapping[str, Instance]
) -> tuple[str, ...]:
    """The stage of `one_of` that feeds this instance (no stage where it takes none)."""
    if not stage.one_of:
        return ()
    named = [name for name in stage.one_of if name in spec.parents]
    if len(named) > 1:
        raise EmtError(
            f"{spec.label} names {' and '.join(named)} as parents and takes one of them",
            remedy="leave one out",
        )
    same = [name for name in stage.one_of if spec.name and f"{name}.{spec.name}" in done]
    there = [
        name for name in stage.one_of if any(label.partition(".")[0] == name for label in done)
    ]
    return (*named, *same, *there, *stage.one_of)[:1]


def _further_parent(spec: InstanceConfig, name: str, done: Mapping[str, Instance]) -> str:
    """`stage.name`, as the config asks; `stage.` is the unnamed instance."""
    label = name.removesuffix(".")
    if label not in done:
        stage = name.partition(".")[0]
        there = [other for other in done if other.partition(".")[0] == stage]
        raise EmtError(
            f"{spec.label} asks for {label!r}",
            remedy=f"the recipe has: {', '.join(there) or 'none'}",
        )
    return label


def _choose_parent(spec: InstanceConfig, stage: str, done: Mapping[str, Instance]) -> str:
    """Named by the recipe; else the one with the same name; else the unnamed one; else the only one."""
    there = [label for label in done if label.partition(".")[0] == stage]
    if stage in spec.parents:
        label = f"{stage}.{spec.parents[stage]}" if spec.parents[stage] else stage
        if label not in there:
            raise EmtError(
                f"{spec.label} wants {label!r} as parent",
                remedy=f"the recipe has: {', '.join(there) or 'none'}",
            )
        return label
    for label in (f"{stage}.{spec.name}" if spec.name else stage, stage):
        if label in there:
            return label
    if len(there) == 1:
        return there[0]
    if not there:
        raise EmtError(
            f"{spec.label} needs a {stage!r} stage", remedy=f"add `{stage}: {{}}` to the recipe"
        )
    raise EmtError(
        f"{spec.label} could take any of {', '.join(there)}",
        remedy=f"say which: `parents: {{{stage}: {there[0].partition('.')[2]}}}`",
    )


def _instance(
    spec: InstanceConfig,
    parents: Mapping[str, Instance],
    recipe: Recipe,
    identities: dict[str, Any],
) -> Instance:
    module = stage_module(spec.stage)
    config = spec.config.model_dump(mode="json")
    identity, replaced = None, ()
    if hasattr(module, "identity"):
        # the same for every arm: inputs are fingerprinted once per plan
        memo = f"{spec.stage}:{spec.config.model_dump_json()}"
        if memo not in identities:
            identities[memo] = module.identity(spec.config, recipe.base)
        identity, replaced = identities[memo], getattr(module, "IDENTITY_REPLACES", ())
    key = make_key(
        stage=spec.stage,
        version=module.VERSION,
        config={name: value for name, value in config.items() if name not in replaced},
        identity=identity,
        parents={name: parent.key for name, parent in parents.items()},
    )
    return Instance(spec.stage, spec.config, identity, parents, key)
