"""midtrain: supervised fine-tuning of the whole VLM on a selection (method section 8).

model/              `save_pretrained`: weights (in the origin's precision), processor, template
interpolated/0.5/   the same, half way from the origin; one for each of `interpolate`
steps/100/          the same, after step 100; one for each of `keep_steps`
steps.jsonl         a line a step (training/steps_log.py)
rejects.jsonl       samples not trained on: {"id", "reason", "detail", "step"} a line
checkpoints/        while building only: the last two, atomic

Under torchrun the ranks of a launch train one model together; rank 0 writes (run/runner.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError
from emt_core.recipe.kept_weights import step_folder
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.run.host import threads_beside
from emt_core.run.plan import Instance
from emt_core.run.stage import Context, DiskNeed, Outcome

if TYPE_CHECKING:
    from emt_core.training.midtrain.loop import StepResult
    from emt_core.training.midtrain.session import Session, Validate

VERSION = 1
DEVICE = True
IDENTITY_REPLACES = ("model", "revision")
DISTRIBUTED = True
TRACKED = True

INLINE_SAMPLES = 4_000
"""On a CPU, fewer samples in all are decoded in the main process: workers import torch, which takes
ten CPU seconds.
"""


def identity(config: MidtrainConfig, base: Path) -> dict[str, Any]:
    """What the model is, whatever it is called."""
    from emt_core.models.identity import model_identity, need_model

    need_model(config.model, "midtrain")
    return model_identity(config.model, config.revision, base)


def disk(instance: Instance, base: Path) -> list[DiskNeed]:
    """The model in its own precision, and the two newest states while a third is written."""
    from emt_core.models.weights import weights_of
    from emt_core.training.checkpoints import checkpoint_bytes

    config = instance.config
    assert isinstance(config, MidtrainConfig)
    weights = weights_of(config.model, config.revision, base)
    states = checkpoint_bytes(config, weights.parameters) if weights else None
    return [
        DiskNeed(what="model", bytes=weights and weights.bytes, kind="result"),
        DiskNeed(what="checkpoints", bytes=states, kind="scratch"),
        *(_interpolated_need(config, weights.bytes if weights else None)),
        *(_kept_need(config, weights.bytes if weights else None)),
    ]


def _kept_need(config: MidtrainConfig, size: int | None) -> list[DiskNeed]:
    count = len(config.keep_steps)
    if not count:
        return []
    return [DiskNeed(what=f"weights of {count} steps", bytes=size and count * size, kind="result")]


def _interpolated_need(config: MidtrainConfig, size: int | None) -> list[DiskNeed]:
    count = len(config.interpolate)
    if not count:
        return []
    return [
        DiskNeed(what=f"{count} interpolated", bytes=size and count * size, kind="result"),
        DiskNeed(what="the origin's weights once more", bytes=size, kind="scratch"),
    ]


def run(context: Context) -> Outcome:
    from emt_core.models.identity import locate_model
    from emt_core.training.devices import close_accelerator
    from emt_core.training.midtrain.fit import plan_of
    from emt_core.training.midtrain.interpolate import ORIGIN, interpolate
    from emt_core.training.midtrain.rejects import count_rejects
    from emt_core.training.midtrain.session import open_session
    from emt_core.training.steps_log import iterate_steps
    from emt_core.training.tracking import open_tracking

    config = context.config
    assert isinstance(config, MidtrainConfig)
    rows = selected_rows(context)
    general = general_rows(context, config)
    rows, general, held = _without_held_out(context, config, rows, general)
    _leave_cores_to_decoding(context.runtime.workers)
    revision = context.identity.get("revision") or config.revision
    try:
        session, preparer = open_session(
            config, context.runtime, context.base, revision, context.out
        )
        accelerator = session.accelerator
        world = accelerator.num_processes
        feed = _feed(context, config, (rows, general), preparer, session)
        plan = plan_of(session, preparer, context.runtime)
        taught = f"{len(rows):,} samples"
        if len(general):
            taught += f" and {len(general):,} general ones"
        if len(held):
            taught += f" ({len(held):,} held out)"
        resumed = f", from step {session.after}" if session.after else ""
        passes = (
            f"passes of {plan.micro} rows"
            if config.packing
            else f"{plan.passes} passes of {plan.micro}"
        )
        context.progress.say(
            f"{taught}, {config.steps:,} steps of {config.batch} ({passes} "
            f"on {world} device{'s' if world > 1 else ''}){resumed}"
        )
        done = session.after

        def after_step(result: StepResult) -> None:
            if result.step in config.keep_steps:
                folder = context.out / step_folder(result.step)
                session.save_model(folder, preparer.processor)
            tracker.advance()

        with (
            open_tracking("midtrain", context) as tracking,
            context.progress.track("training", config.steps, done=done, unit="steps") as tracker,
        ):
            trainer = session.train(
                feed.steps,
                plan,
                context.out,
                on_step=after_step,
                say=context.progress.say,
                track=tracking.log,
                validate=_validate(context, config, held, preparer, session),
            )
        session.save_model(context.out / "model", preparer.processor)
        accelerator.wait_for_everyone()
        metrics = {
            "device": str(accelerator.device),
            "dtype": accelerator.mixed_precision.replace("no", "float32"),
            "devices": world,
            "micro_batch": trainer.plan.micro,
            "passes": None if config.packing else trainer.plan.passes,
            "parameters": session.parameters,
        }
    finally:
        close_accelerator()
    if accelerator.is_main_process:
        steps = list(iterate_steps(context.out / "steps.jsonl"))
        own = len(rows) / (1 - config.replay)  # of so many samples, a selection's are one epoch
        metrics |= _metrics(steps, own, count_rejects(context.out / "rejects.jsonl"))
        if len(held):
            metrics["validation"] = _validated(steps, len(held))
        if config.replay:
            metrics["replayed"] = {"share": config.replay, "rows": len(general)}
        if config.interpolate:
            context.progress.say(f"weights between origin and result: {len(config.interpolate)}")
            origin = str(locate_model(config.model, context.base))
            interpolate(origin, revision, context.out, config.interpolate)
    return Outcome(rows=len(rows), metrics=metrics, scratch=("checkpoints", ORIGIN))


def selected_rows(context: Context, parent: str = "select") -> Any:
    """int64 [n]: index rows of the selection.

    parent: which one. Raises EmtError where it belongs to another pool, or is empty.
    """
    import numpy as np
    import pyarrow.parquet as pq

    select = context.parents[parent]
    if select.manifest["parents"].get("sources") != context.parents["sources"].key:
        raise EmtError(
            "the selection was made from another pool than the one this recipe names",
            where=f"select {select.key}",
            remedy="run select again with this recipe's sources",
        )
    table = pq.read_table(select.data / "selected.parquet", columns=["row"])
    rows = table.column("row").to_numpy().astype(np.int64)
    if not len(rows):
        raise EmtError(
            "the selection is empty",
            where=f"select {select.key}",
            remedy="choose a lower threshold",
        )
    return rows


def general_rows(context: Context, config: MidtrainConfig) -> Any:
    """int64 [n]: index rows that `replay` mixes in; of a draw, no more than training can take.

    Raises EmtError where the selection leaves none out.
    """
    import numpy as np

    from emt_core.selection.replay import left_out
    from emt_core.training.midtrain.order import general_until
    from emt_core.workspace.table import Table

    if not config.replay:
        return np.empty(0, np.int64)
    if config.replay_from:
        return selected_rows(context, f"select.{config.replay_from}")
    select = context.parents["select"]
    most = general_until(config.steps, config.batch, config.replay)
    rows = left_out(Table(select.data / "selection.lance"), max(most, 1), config.seed)
    if not len(rows):
        raise EmtError(
            "replay has no samples to draw: the selection leaves none out",
            where=f"select {select.key}",
            remedy="name the general samples: `replay_from: NAME` of a select.NAME",
        )
    return rows


def _without_held_out(
    context: Context, config: MidtrainConfig, rows: Any, general: Any
) -> tuple[Any, Any, Any]:
    """(rows and general rows that may be trained on, held-out rows), int64 each."""
    import numpy as np

    from emt_core.data.index import Index
    from emt_core.proximity.split import held_out

    if not config.validation_share:
        return rows, general, np.empty(0, np.int64)
    index = Index(context.parents["sources"])
    held = held_out(index, rows, config.validation_share, config.seed)
    return rows[~held[rows]], general[~held[general]], rows[held[rows]]


def _validate(
    context: Context, config: MidtrainConfig, held: Any, preparer: Any, session: Session
) -> Validate:
    from emt_core.training.midtrain.batches import Selection
    from emt_core.training.midtrain.session import unmeasured
    from emt_core.training.midtrain.validation import Validation, measured_rows

    if not len(held):
        return unmeasured
    selection = Selection(
        context.parents["sources"],
        measured_rows(held, config.seed),
        preparer,
        max_images=config.max_images,
        always_image=session.sharded,
    )
    validation = Validation(
        selection=selection,
        accelerator=session.accelerator,
        module=session.module,
        steps=config.steps,
        every=config.validation_every,
    )
    return validation.at


def _leave_cores_to_decoding(workers: int) -> None:
    import torch

    torch.set_num_threads(threads_beside(workers, torch.get_num_threads()))


def _feed(
    context: Context, config: MidtrainConfig, rows: tuple[Any, Any], preparer: Any, session: Session
) -> Any:
    """rows: of the selection, and general ones."""
    import numpy as np

    from emt_core.training.midtrain.batches import Feed, Selection
    from emt_core.training.midtrain.order import MixedStream

    selected, general = len(rows[0]), len(rows[1])
    selection = Selection(
        context.parents["sources"],
        np.concatenate(rows),
        preparer,
        max_images=config.max_images,
        always_image=session.sharded,
        packing=config.packing,
    )
    few = session.accelerator.device.type == "cpu" and config.steps * config.batch < INLINE_SAMPLES
    return Feed(
        selection,
        seed=config.seed,
        workers=0 if few else context.runtime.workers,
        mixed=MixedStream(selected, general, config.replay, config.seed) if general else None,
    )


def _validated(steps: list[dict[str, Any]], rows: int) -> dict[str, Any]:
    found = [
        (record["validation_loss"], record["step"])
        for record in steps
        if record.get("validation_loss") is not None
    ]
    if not found:
        return {"rows": rows}
    best, at = min(found)
    return {"rows": rows, "last_loss": found[-1][0], "best_loss": best, "best_step": at}


def _metrics(steps: list[dict[str, Any]], epoch: float, rejects: dict[str, int]) -> dict[str, Any]:
    """First and last losses are means over a twentieth of the steps: single steps are noise."""
    losses = [record["loss"] for record in steps if record["loss"] is not None]
    if not losses:
        return {}
    span = max(len(losses) // 20, 1)
    last = steps[-1]
    seconds = max(last["seconds"], 1e-9)
    return {
        "first_loss": sum(losses[:span]) / span,
        "last_loss": sum(losses[-span:]) / span,
        "steps": last["step"],
        "samples": last["samples"],
        "epochs": round(last["samples"] / epoch, 3),
        "tokens": last["tokens"],
        "supervised_tokens": last["supervised"],
        "training_seconds": last["seconds"],
        "tokens_per_second": round(last["tokens"] / seconds, 1),
        "samples_per_second": round(last["samples"] / seconds, 2),
        "memory_mb": max(record["memory_mb"] for record in steps),
        "rejects": rejects,
    }
