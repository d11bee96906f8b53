"""`emt midtrain RECIPE`: mid-train, or with `--dry-run` only say how much memory it would take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from emt_core.cli.options import RecipeArg, SetOpt
from emt_core.cli.run import run_recipe

if TYPE_CHECKING:
    from emt_core.recipe.midtrain import MidtrainConfig
    from emt_core.training.midtrain.dry_run import DryRun

SAME_MEMORY = {
    "seed",
    "steps",
    "learning_rate",
    "warmup_ratio",
    "warmup_steps",
    "weight_decay",
    "clip_norm",
}
"""Settings that change no byte: instances that differ in these alone are run once."""


def midtrain(
    recipe: RecipeArg,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace", "-w", help="Folder that holds all results; made if it is not there."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only say how much memory it would take, and how a step would be cut up.",
        ),
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
    """For each midtrain instance of the recipe a few lines; no source is read and nothing is
    written. Raises EmtError where the recipe has none, a model cannot be loaded, or memory runs
    out."""
    from emt_core.errors import EmtError
    from emt_core.recipe.midtrain import MidtrainConfig
    from emt_core.recipe.recipe import load_recipe
    from emt_core.training.midtrain.dry_run import dry_run
    from emt_core.training.midtrain.memory import resident_memory
    from emt_core.training.midtrain.session import close_accelerator, open_session

    loaded = load_recipe(recipe, overrides)
    found: dict[str, tuple[MidtrainConfig, list[str]]] = {}
    for instance in loaded.instances:
        if isinstance(instance.config, MidtrainConfig):
            facts = instance.config.model_dump_json(exclude=SAME_MEMORY)
            found.setdefault(facts, (instance.config, []))[1].append(instance.label)
    if not found:
        raise EmtError(
            "the recipe has no midtrain", where=recipe, remedy="add `midtrain: {}` and a `backbone`"
        )
    for config, labels in found.values():
        if not config.model:
            raise EmtError(
                "midtrain has no model", where=recipe, remedy="give the recipe a `backbone`"
            )
        before = resident_memory()
        try:
            with TemporaryDirectory() as nothing_kept:
                session, preparer = open_session(
                    config, loaded.runtime, loaded.base, config.revision, Path(nothing_kept)
                )
                result = dry_run(session, preparer, loaded.runtime, before=before)
            first = session.accelerator.is_main_process
        finally:
            close_accelerator()
        if first:
            print(f"{', '.join(labels)}: {config.model} (a dry run: no data read, nothing written)")
            print(describe(result))
        del session, preparer


def describe(result: DryRun) -> str:
    """Expected beside measured, the micro-batch and the passes, in words."""
    expected, plan = result.expected, result.plan
    devices = f" on each of {plan.world} devices" if plan.world > 1 else ""
    chosen = (
        f"set by runtime.batch; {result.fits} are expected to fit"
        if result.given
        else "chosen by memory"
    )
    passes = f"{plan.passes} pass{'es' if plan.passes > 1 else ''} of {plan.micro}"
    lines = {
        "device": f"{result.device}, {result.precision}; {_size(result.available)} for training",
        "largest sample": f"{result.tokens:,} tokens, {result.image_tokens:,} of them images",
        "expected": f"{_size(expected.total(plan.micro))}: weights {_size(expected.weights)}, gradients"
        f" {_size(expected.gradients)}, moments {_size(expected.states)}, {_size(expected.per_sample)} a sample",
        "measured": f"{_size(result.measured)} at the most in a step of the largest samples"
        + ("; growth of this process, libraries included" if result.device == "cpu" else ""),
        "micro-batch": f"{plan.micro} samples a pass ({chosen})",
        "a step": f"{plan.batch} samples: {passes}{devices}",
    }
    return "\n".join(f"  {name:<16}{says}" for name, says in lines.items())


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
