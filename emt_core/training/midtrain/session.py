"""One mid-training run on whatever devices there are: model, optimizer and data put together.

session = open_session(...)     loads the model, finds the last whole checkpoint
session.train(...)              steps up to the last one; log, rejects and checkpoints as they come
session.save_model(folder)      rank 0: `save_pretrained`, in the precision that the origin has
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError
from emt_core.models.device import settled_arithmetic
from emt_core.models.identity import locate_model
from emt_core.models.vlm.load import load_processor, load_vlm, stored_dtype, without_bars
from emt_core.models.vlm.packed import check_packing
from emt_core.models.weights import parameters_of
from emt_core.recipe.base import Runtime
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.training.checkpoints import (
    Checkpoints,
    gather_weights,
    restore_state,
    state_writer,
)
from emt_core.training.devices import open_accelerator
from emt_core.training.low_rank import merged
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.loop import Cadence, StepResult, Steps, Trainer
from emt_core.training.midtrain.loss import SupervisedLoss
from emt_core.training.midtrain.micro_batch import Plan
from emt_core.training.midtrain.rejects import RejectLog, Usable
from emt_core.training.optimizer import build_optimizer
from emt_core.training.parts import choose_trained, count_parameters, rate_factor_of
from emt_core.training.pull import Pull
from emt_core.training.sharding import agree, is_sharded
from emt_core.training.steps_log import StepsLog, Track, untracked

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

SUMS = ("samples", "tokens", "supervised")
"""What is added up over all steps, interrupted runs included."""

CHECKPOINT_SECONDS = 600.0
"""Work that a kill may cost. A checkpoint of 1.1 billion parameters has 13 GB: writing one more
often would be felt."""


class Session:
    """A model in training, with its optimizer, on this process's device."""

    def __init__(
        self,
        vlm: Any,
        config: MidtrainConfig,
        accelerator: Accelerator,
        out: Path,
        *,
        recompute: bool = False,
        origin_dtype: torch.dtype | None = None,
    ) -> None:
        """vlm: in float32, as `load_vlm` gives it.

        recompute: gradient checkpointing (less memory, a third more time). origin_dtype: precision
        that the result is saved in (None: float32). Goes on from the last whole checkpoint below
        `out`. Raises EmtError where that is of another model.
        """
        import torch

        self.config = config
        self.accelerator = accelerator
        self.origin_dtype = origin_dtype or torch.float32
        self.vlm = vlm
        if config.packing:
            check_packing(vlm)
        choose_trained(vlm, config, seed=config.seed, stage="midtrain")
        if recompute:
            options = {"use_reentrant": False}
            self.vlm.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        self.vlm.train()
        self.parameters = count_parameters(self.vlm)
        module = SupervisedLoss(self.vlm).to(accelerator.device)
        optimizer = build_optimizer(
            module,
            weight_decay=config.weight_decay,
            kind=config.optimizer,
            betas=config.betas,
            factor_of=rate_factor_of(self.vlm, config.rate_factors),
        )
        self.module, self.optimizer = accelerator.prepare(module, optimizer)
        self.pull = Pull(self.module, config.l2_sp) if config.l2_sp else None
        self.checkpoints = Checkpoints(out / "checkpoints")
        self.resumed = self.checkpoints.latest()
        if self.resumed is not None:
            restore_state(accelerator, self.resumed.path, self.module, self.optimizer)
        accelerator.wait_for_everyone()  # nobody writes before everybody has read

    @property
    def after(self) -> int:
        """The step that training goes on from; 0 at the start."""
        return self.resumed.step if self.resumed else 0

    def train(
        self,
        steps: Steps,
        plan: Plan,
        out: Path,
        *,
        on_step: Callable[[StepResult], None] = lambda _: None,
        say: Callable[[str], None] = print,
        track: Track = untracked,
    ) -> Trainer:
        """Up to config.steps; steps: `Feed.steps`. Returns the trainer.

        Rank 0 writes steps.jsonl, rejects.jsonl and checkpoints.
        """
        accelerator = self.accelerator
        first = accelerator.is_main_process
        path = out / "steps.jsonl"
        log = StepsLog(path, after=self.after, track=track) if first else None
        rejects = RejectLog(out / "rejects.jsonl", after=self.after) if first else None
        sums = {name: self.resumed.facts[name] if self.resumed else 0 for name in SUMS}
        cadence = Cadence(CHECKPOINT_SECONDS)
        saved = self.after

        def save(step: int) -> None:
            nonlocal saved
            self._save(step, {**sums, "micro": trainer.plan.micro})
            saved = step

        def keep_last_good(step: int) -> None:
            # the step that failed was not taken: the weights are those of `step`
            if step != saved:
                save(step)
                # torchrun ends all ranks when the first one fails
                accelerator.wait_for_everyone()

        trainer = Trainer(
            accelerator=accelerator,
            module=self.module,
            optimizer=self.optimizer,
            steps=steps,
            config=self.config,
            plan=plan,
            pull=self.pull,
            say=say,
        )
        usable = Usable()
        for result in trainer.run(self.after, before_failure=keep_last_good):
            for name in SUMS:
                sums[name] += getattr(result, name)
            if log is not None and rejects is not None:
                rejects.write(result.step, result.rejected)
                values = {
                    "loss": result.loss,
                    "learning_rate": result.learning_rate,
                    "grad_norm": result.grad_norm,
                    **({} if self.pull is None else {"penalty": result.penalty}),
                    **sums,
                    "memory_mb": round(result.memory_mb, 1),
                    "data_wait": round(result.data_wait, 4),
                }
                log.write(result.step, values)
            if agree(accelerator, cadence.due()) and result.step < self.config.steps:
                save(result.step)
            usable.check(result.samples, result.rejected, out / "rejects.jsonl")
            on_step(result)
        if self.after < self.config.steps:
            save(self.config.steps)
        if not sums["supervised"]:
            raise EmtError(
                "not one sample of the selection can be trained on",
                where=out / "rejects.jsonl",
                remedy="its lines say why; a larger cutoff or other images may help",
            )
        return trainer

    def save_model(self, folder: Path, processor: Any) -> None:
        """Write what `from_pretrained` takes, processor included. All ranks call it."""
        gathered = gather_weights(self.accelerator, self.module)
        weights = {name.removeprefix("vlm."): value for name, value in gathered.items()}
        if not self.accelerator.is_main_process:
            return
        weights = merged(weights, self.config.lora_alpha, self.origin_dtype)
        vlm = self.vlm
        vlm.config.use_cache = True
        aside = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(aside, ignore_errors=True)
        with without_bars():
            vlm.save_pretrained(aside, state_dict=weights)
        # it says the precision of the weights in training
        vlm.config.dtype = self.origin_dtype
        vlm.config.save_pretrained(aside)
        processor.save_pretrained(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)

    @property
    def sharded(self) -> bool:
        """Whether FSDP has spread the weights over the ranks."""
        return is_sharded(self.accelerator)

    def _save(self, step: int, facts: dict[str, Any]) -> None:
        """A checkpoint, written by rank 0; all ranks call it."""
        write = state_writer(self.accelerator, self.module, self.optimizer)
        if self.accelerator.is_main_process:
            self.checkpoints.save(step, write, facts)


def open_session(
    config: MidtrainConfig, runtime: Runtime, base: Path, revision: str | None, out: Path
) -> tuple[Session, ConversationPreparer]:
    """Model, optimizer and devices as this recipe wants them, resumed from what `out` holds.

    Raises EmtError. The caller ends with `close_accelerator()`, whether this succeeded or not.
    """
    model = str(locate_model(config.model, base))
    preparer = open_preparer(config, model, revision)
    parameters = parameters_of(model, revision, base)
    settled = settled_arithmetic(out, config.precision, runtime.device, parameters=parameters)
    # a pass of text alone leaves vision encoder and projector without gradient
    text_part = config.trained_parts == {"language"}
    accelerator = open_accelerator(
        runtime.device, settled.dtype, sharding=runtime.sharding, find_unused=not text_part
    )
    world = accelerator.num_processes
    if config.batch < world:
        raise EmtError(
            f"a batch of {config.batch} on {world} devices",
            remedy="a larger batch, or fewer devices",
        )
    session = Session(
        load_vlm(model, revision, attention=config.attn_implementation),
        config,
        accelerator,
        out,
        recompute=runtime.gradient_checkpointing,
        origin_dtype=stored_dtype(model, revision),
    )
    return session, preparer


def open_preparer(config: MidtrainConfig, model: str, revision: str | None) -> ConversationPreparer:
    """What makes samples of this recipe into inputs. model: folder or hub name."""
    return ConversationPreparer(
        load_processor(model, revision),
        cutoff=config.cutoff,
        max_tiles=config.max_tiles,
        max_image_pixels=config.max_image_pixels,
    )
