"""`emt midtrain RECIPE`: mid-train, or with `--dry-run` only say how much memory it would take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from emt_core.cli.options import RESULTS, RecipeArg, SetOpt
from emt_core.cli.run import run_recipe
from emt_core.errors import EmtError

if TYPE_CHECKING:
    from emt_core.recipe.midtrain import MidtrainConfig
    from emt_core.recipe.recipe import Recipe
    from emt_core.training.midtrain.dry_run import DryRun

SAME_MEMORY = {"seed", "steps", "learning_rate", "warmup_ratio", "warmup_steps"}
SAME_MEMORY |= {"weight_decay", "clip_norm"}
"""Settings that need no memory: of instances that differ in these alone, one is tried."""


def midtrain(
    recipe: RecipeArg,
    workspace: Annotated[Path | None, typer.Option("--workspace", "-w", help=RESULTS)] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how much memory a step would take.")
    ] = False,
    set_: SetOpt = None,
) -> None:
    """Mid-train the VLM on a selection. Needs: sources, select (run first where missing)."""
    if dry_run:
        midtrain_dry_run(recipe, set_ or ())
        return
    if workspace is None:
        raise typer.BadParameter(
            "give a folder for the results, or --dry-run", param_hint="--workspace"
        )
    run_recipe(recipe, workspace, set_, until="midtrain")


def midtrain_dry_run(recipe: Path, overrides: Sequence[str]) -> None:
    """Print expected and measured memory for each midtrain instance; reads no source.

    Raises EmtError where the recipe has no midtrain, a model cannot be loaded, or memory runs out.
    """
    from emt_core.models.identity import need_model
    from emt_core.recipe.recipe import load_recipe
    from emt_core.training.devices import close_accelerator
    from emt_core.training.midtrain.dry_run import dry_run
    from emt_core.training.midtrain.memory import resident_memory
    from emt_core.training.midtrain.session import open_session

    loaded = load_recipe(recipe, overrides)
    for config, labels in _midtrain_instances(loaded):
        need_model(config.model, "midtrain")
        before = resident_memory()
        try:
            with TemporaryDirectory() as folder:
                session, preparer = open_session(
                    config, loaded.runtime, loaded.base, config.revision, Path(folder)
                )
                result = dry_run(session, preparer, loaded.runtime, before=before)
            first = session.accelerator.is_main_process
        finally:
            close_accelerator()
        if first:
            print(f"{', '.join(labels)}: {config.model} (a dry run: no data read, nothing written)")
            print(describe(result))
        del session, preparer


def _midtrain_instances(recipe: Recipe) -> list[tuple[MidtrainConfig, list[str]]]:
    """Configs that need different memory, each with the labels of its instances."""
    from emt_core.recipe.midtrain import MidtrainConfig

    by_memory: dict[str, tuple[MidtrainConfig, list[str]]] = {}
    for instance in recipe.instances:
        if isinstance(instance.config, MidtrainConfig):
            relevant = instance.config.model_dump_json(exclude=SAME_MEMORY)
            by_memory.setdefault(relevant, (instance.config, []))[1].append(instance.label)
    if not by_memory:
        raise EmtError(
            "the recipe has no midtrain",
            where=recipe.file or recipe.name,
            remedy="add `midtrain: {}` and a `backbone`",
        )
    return list(by_memory.values())


def describe(result: DryRun) -> str:
    """Expected beside measured memory, the micro-batch and the passes, a line each."""
    expected = result.expected
    plan = result.plan
    chosen = "chosen by memory"
    if result.given:
        chosen = f"set by runtime.batch; {result.fits} are expected to fit"
    passes = f"{plan.passes} pass{'es' if plan.passes > 1 else ''} of {plan.micro}"
    devices = f" on each of {plan.world} devices" if plan.world > 1 else ""
    process = "; growth of this process, libraries included" if result.device == "cpu" else ""
    parts = {
        "weights": expected.weights,
        "gradients": expected.gradients,
        "moments": expected.states,
    }
    sizes = ", ".join(f"{name} {_size(count)}" for name, count in parts.items())
    lines = {
        "device": f"{result.device}, {result.precision}; {_size(result.available)} for training",
        "largest sample": f"{result.tokens:,} tokens, {result.image_tokens:,} of them images",
        "expected": f"{_size(expected.total(plan.micro))}: {sizes}, "
        f"{_size(expected.per_sample)} a sample",
        "measured": f"{_size(result.measured)} at the most in a step of the largest samples"
        + process,
        "micro-batch": f"{plan.micro} samples a pass ({chosen})",
        "a step": f"{plan.batch} samples: {passes}{devices}",
    }
    return "\n".join(f"  {name:<16}{text}" for name, text in lines.items())


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
