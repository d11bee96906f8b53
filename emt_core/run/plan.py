"""From a recipe to a graph of keyed instances: parents resolved, arms x seeds expanded, merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from emt_core.errors import EmtError, raise_together
from emt_core.flow import FLOW, STAGES, Stage
from emt_core.recipe.base import StageConfig
from emt_core.recipe.recipe import InstanceConfig, Recipe, apply_overrides, build_recipe
from emt_core.recipe.sources import SourcesConfig
from emt_core.run.stage import stage_module
from emt_core.workspace.artifact import make_key


@dataclass(frozen=True)
class Instance:
    """One artifact to be: a stage with its config and the instances that feed it."""

    stage: str
    config: StageConfig
    identity: Any
    """What else determines the output: fingerprints of inputs, hash of a model's files."""

    parents: Mapping[str, Instance]
    """By stage; further instances of a stage (StageConfig.further) by `stage.name`."""

    key: str
    labels: list[str] = field(default_factory=list, compare=False)
    """Its names in the recipe: `select.top`, or `select.top@random/0` for an arm and seed."""

    problem: EmtError | None = field(default=None, compare=False)
    """What it lacks (a file, a model), in a plan that was made all the same; its key is not one."""

    @property
    def label(self) -> str:
        return self.labels[0]

    def ancestor(self, stage: str) -> Instance | None:
        """The nearest instance of that stage among those that feed this one, directly or not."""
        for parent in self.parents.values():
            if found := parent if parent.stage == stage else parent.ancestor(stage):
                return found
        return None

    @property
    def sources(self) -> SourcesConfig:
        """The sources that feed it."""
        found = self.ancestor("sources")
        assert found is not None and isinstance(found.config, SourcesConfig)
        return found.config


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


def make_plan(recipe: Recipe, *, whole: bool = True) -> Plan:
    """Resolve a recipe. Reads fingerprints of the inputs.

    Raises EmtError with everything that is missing: files, models, questions. whole False: what is
    missing becomes the `problem` of its instance instead.
    """
    merged: dict[tuple[str, str], Instance] = {}
    identities: dict[str, Any] = {}
    """By settings: the identity, or the EmtError that says what is missing."""
    order = {stage.name: place for place, stage in enumerate(FLOW)}
    secondary: dict[str, list[str]] = {}
    """Key -> labels from variants whose last stage does not need the instance."""
    for suffix, variant in _variants(recipe):
        done = _resolve(variant, merged, identities)
        needed = _needed_for_last_stage(done.values(), order)
        for label, instance in done.items():
            if instance.key in needed:
                instance.labels.append(label + suffix)
            else:
                secondary.setdefault(instance.key, []).append(label + suffix)
    if whole:
        raise_together(found for found in identities.values() if isinstance(found, EmtError))
    variants = max(len(recipe.arms), 1) * max(len(recipe.seeds), 1)
    for instance in merged.values():
        labels = instance.labels + secondary.get(instance.key, [])
        instance.labels[:] = _tidy_labels(labels, variants)
    return Plan(recipe, tuple(sorted(merged.values(), key=lambda i: order[i.stage])))


def _needed_for_last_stage(instances: Collection[Instance], order: Mapping[str, int]) -> set[str]:
    """Keys of the instances of a variant's last stage and of everything that feeds them.

    It decides which name of a shared instance comes first. For example: the arm `learned` trains
    `midtrain` and fine-tunes from it; the arm `none` fine-tunes from the backbone, but its recipe
    lists the same `midtrain`. The artifact is then called `midtrain@learned`, not `midtrain@none`.
    """
    last = max((order[i.stage] for i in instances), default=0)
    waiting = [i for i in instances if order[i.stage] == last]
    needed: set[str] = set()
    while waiting:
        instance = waiting.pop()
        if instance.key not in needed:
            needed.add(instance.key)
            waiting += instance.parents.values()
    return needed


def _tidy_labels(labels: list[str], variants: int) -> list[str]:
    """Replace `select@a/0, select@a/1, ...` by `select` where all arms and seeds share it."""
    suffixed = [label for label in labels if "@" in label]
    if not suffixed:
        return list(dict.fromkeys(labels))
    count = Counter(label.split("@")[0] for label in suffixed)
    shared = [name for name in count if count[name] == variants]
    return shared + [label for label in suffixed if label.split("@")[0] not in shared]


def _variants(recipe: Recipe) -> Iterable[tuple[str, Recipe]]:
    """(label suffix, recipe) for each arm and seed; one with suffix "" without arms and seeds."""
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
    """The recipe's instances by label; equal work of several arms or names is one object."""
    done: dict[str, Instance] = {}
    for stage in FLOW:
        for spec in (i for i in recipe.instances if i.stage == stage.name):
            if unknown := set(spec.parents) - set(stage.feeders):
                raise EmtError(
                    f"{spec.label} names parents {sorted(unknown)} that stage {stage.name!r} "
                    "does not take",
                    remedy=f"its parents are {', '.join(stage.feeders) or 'none'}",
                )
            there = [name for name in stage.if_there if _labels_of(name, done)]
            wanted = (*stage.needs, *there, *spec.config.uses(), *_choose_one(stage, spec, done))
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
    same_name = [name for name in stage.one_of if spec.name and f"{name}.{spec.name}" in done]
    present = [name for name in stage.one_of if _labels_of(name, done)]
    return (*named, *same_name, *present, *stage.one_of)[:1]


def _labels_of(stage: str, done: Mapping[str, Instance]) -> list[str]:
    return [label for label in done if label.partition(".")[0] == stage]


def _further_parent(spec: InstanceConfig, name: str, done: Mapping[str, Instance]) -> str:
    """`stage.name`, as the config asks; `stage.` is the unnamed instance."""
    label = name.removesuffix(".")
    if label not in done:
        known = _labels_of(name.partition(".")[0], done)
        raise EmtError(
            f"{spec.label} asks for {label!r}",
            remedy=f"the recipe has: {', '.join(known) or 'none'}",
        )
    return label


def _choose_parent(spec: InstanceConfig, stage: str, done: Mapping[str, Instance]) -> str:
    """Named by the recipe, else of the same name, else the unnamed one, else the only one."""
    known = _labels_of(stage, done)
    if stage in spec.parents:
        label = f"{stage}.{spec.parents[stage]}" if spec.parents[stage] else stage
        if label not in known:
            raise EmtError(
                f"{spec.label} wants {label!r} as parent",
                remedy=f"the recipe has: {', '.join(known) or 'none'}",
            )
        return label
    for label in (f"{stage}.{spec.name}" if spec.name else stage, stage):
        if label in known:
            return label
    if not known:
        raise EmtError(
            f"{spec.label} needs a {stage!r} stage", remedy=f"add `{stage}: {{}}` to the recipe"
        )
    if len(known) > 1:
        raise EmtError(
            f"{spec.label} could take any of {', '.join(known)}",
            remedy=f"say which: `parents: {{{stage}: {known[0].partition('.')[2]}}}`",
        )
    return known[0]


def _instance(
    spec: InstanceConfig,
    parents: Mapping[str, Instance],
    recipe: Recipe,
    identities: dict[str, Any],
) -> Instance:
    """identities: those worked out so far: every arm has the same inputs, fingerprinted once."""
    module = stage_module(spec.stage)
    config = spec.config.model_dump(mode="json")
    identity = None
    problem = None
    replaced: tuple[str, ...] = ()
    if hasattr(module, "identity"):
        memo = f"{spec.stage}:{spec.config.model_dump_json()}"
        if memo not in identities:
            try:
                identities[memo] = module.identity(spec.config, recipe.base)
            except EmtError as error:
                identities[memo] = error
        found = identities[memo]
        problem, identity = (found, None) if isinstance(found, EmtError) else (None, found)
        replaced = getattr(module, "IDENTITY_REPLACES", ())
    key = make_key(
        stage=spec.stage,
        version=module.VERSION,
        config={name: value for name, value in config.items() if name not in replaced},
        identity=identity,
        parents={name: parent.key for name, parent in parents.items()},
    )
    return Instance(spec.stage, spec.config, identity, parents, key, problem=problem)
