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
    from emt_core.training.midtrain.micro_batch import Plan

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

    What can be counted stands there before a model is loaded. Raises EmtError where the recipe has
    no midtrain, a model cannot be loaded, or a step cannot fit.
    """
    from emt_core.models.identity import need_model
    from emt_core.recipe.recipe import load_recipe
    from emt_core.training.devices import close_accelerator
    from emt_core.training.midtrain.dry_run import forecast_run, measured_run, with_activations
    from emt_core.training.midtrain.memory import resident_memory
    from emt_core.training.midtrain.session import open_session
    from emt_core.workspace.process import rank

    loaded = load_recipe(recipe, overrides)
    runtime = loaded.runtime
    for config, labels in _midtrain_instances(loaded):
        need_model(config.model, "midtrain")
        head = f"{', '.join(labels)}: {config.model} (a dry run: no data read, nothing written)"
        _say(head if not rank() else "")
        result = forecast_run(config, runtime, loaded.base)
        _say("" if rank() else describe(result))
        result.check_fits()
        before = resident_memory()
        try:
            with TemporaryDirectory() as folder:
                session, preparer = open_session(
                    config, runtime, loaded.base, config.revision, Path(folder)
                )
                whole = with_activations(result, session, preparer, runtime)
                whole.check_fits()
                measured, plan = measured_run(whole, session, before=before)
        finally:
            close_accelerator()
        if not rank():
            _say("" if result.whole else describe(whole))
            _say(describe_measured(whole, measured, plan))
        del session, preparer


def _say(text: str) -> None:
    if text:
        print(text, flush=True)


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
    """What was counted, the micro-batch and the passes, a line each."""
    expected = result.fit.expected
    plan = result.plan
    from emt_core.training.midtrain.memory import size_text

    parts = {
        "weights": expected.weights,
        "gradients": expected.gradients,
        "moments": expected.states,
        "copies for the arithmetic": expected.casts,
    }
    sizes = ", ".join(f"{name} {size_text(count)}" for name, count in parts.items() if count)
    free = f"{size_text(result.fit.available)} free for training"
    precision = str(result.dtype).removeprefix("torch.")
    device = _line("device", f"{result.device}, {precision}; {free}")
    if not result.whole:
        unknown = "; activations are measured once the model is loaded"
        return f"{device}\n{_line('expected', sizes + unknown)}"
    chosen = "chosen by memory"
    if result.given:
        chosen = f"set by runtime.batch; {result.fits} are expected to fit"
    passes = f"{plan.passes} pass{'es' if plan.passes > 1 else ''} of {plan.micro}"
    devices = f" on each of {plan.world} devices" if plan.world > 1 else ""
    activations = f"{size_text(expected.per_sample)} a sample"
    tokens = f"{result.tokens:,} tokens, {result.image_tokens:,} of them images"
    return "\n".join(
        [
            device,
            _line("largest sample", tokens),
            _line("expected", f"{size_text(result.expected)}: {sizes}, {activations}"),
            _line("micro-batch", f"{plan.micro} samples a pass ({chosen})"),
            _line("a step", f"{plan.batch} samples: {passes}{devices}"),
        ]
    )


def describe_measured(result: DryRun, measured: int, plan: Plan) -> str:
    """What the steps took, and in what passes where those counted on did not fit."""
    from emt_core.training.midtrain.memory import size_text

    process = "; growth of this process" if result.device.type == "cpu" else ""
    text = f"{size_text(measured)} at the most in a step of the largest samples{process}"
    if plan != result.plan:
        text += f"; {plan.micro} samples a pass: {result.plan.micro} did not fit"
    return _line("measured", text)


def _line(name: str, text: str) -> str:
    return f"  {name:<16}{text}"
