"""The training loop of a VLA on cached frames, resumable to the same weights.

    steps.jsonl                 a line a step (training/steps_log.py), with both losses
    checkpoints/step-N/         the newest two states, while it trains (training/checkpoints.py)
    policies/step-N/            a policy for each kept step (policy.py)

A step is a function of its number: which frames, how they are changed, which rate. So a killed run
that goes on from its checkpoint ends with the weights of one that was never killed (on one kind of
device). Under torchrun each rank passes a share of the batch; losses are divided by what all ranks
learn from, so the number of devices changes nothing but rounding. Rank 0 writes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

from emt_core.data.robot.training_frames import TrainingFrames
from emt_core.errors import EmtError
from emt_core.models.halving import half_of
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.training.average import Average, write_average
from emt_core.training.checkpoints import (
    Checkpoints,
    gather_weights,
    restore_state,
    state_writer,
)
from emt_core.training.low_rank import merged
from emt_core.training.optimizer import build_optimizer, check_finite, finite
from emt_core.training.parts import choose_trained
from emt_core.training.policy.augment import augment
from emt_core.training.policy.batches import Batch, BatchReader
from emt_core.training.policy.loss import action_loss
from emt_core.training.policy.policy import PolicySpec, prompt_builder, save_policy
from emt_core.training.policy.vla import VLA
from emt_core.training.schedule import cosine_rate, seed_step, set_rate, warmup_steps
from emt_core.training.sharding import agree, is_sharded
from emt_core.training.steps_log import StepsLog, Track, untracked
from emt_core.workspace.progress import Progress

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECKPOINT_SECONDS = 300.0
"""Work that a kill may cost."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one step says of itself, over all ranks."""

    loss: float
    loss_arm: float
    loss_gripper: float
    grad_norm: float
    tokens: int


class Finetuner:
    def __init__(
        self,
        config: FinetuneConfig,
        vla: VLA,
        processor: Any,
        spec: PolicySpec,
        frames: TrainingFrames,
        out: Path,
        *,
        accelerator: Accelerator,
        part: int,
        recompute: bool = False,
    ) -> None:
        """spec: of the policies that are saved; each gets its step. part: frames in one forward
        pass, at most; it is halved when a GPU's memory runs out. recompute: gradient checkpointing.

        Raises EmtError for more ranks than frames a batch, and where a package is missing.
        """
        self.accelerator = accelerator
        self.device = accelerator.device
        self.ranks = accelerator.num_processes
        if config.batch < self.ranks:
            raise EmtError(
                f"a batch of {config.batch} cannot be shared by {self.ranks} ranks",
                where="finetune.batch",
            )
        self.config = config
        self.processor = processor
        self.spec = spec
        self.reader = BatchReader(
            config,
            spec,
            frames,
            rank=accelerator.process_index,
            ranks=self.ranks,
            even=is_sharded(accelerator),
        )
        self.part = min(part, config.batch)
        self.prompts = prompt_builder(processor, spec)
        self.checkpoints = Checkpoints(out / "checkpoints")
        self.policies = out / "policies"
        self.steps_path = out / "steps.jsonl"
        choose_trained(vla.vlm, config, seed=config.seed, stage="finetune")
        if recompute:
            options = {"use_reentrant": False}
            vla.vlm.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        self.vla = vla.to(self.device).train()
        optimizer = build_optimizer(
            self.vla, weight_decay=config.weight_decay, kind=config.optimizer
        )
        self.module, self.optimizer = accelerator.prepare(self.vla, optimizer)
        self.average = Average(self.module, config.ema) if config.ema else None
        self._say: Callable[[str], None] = print

    def run(self, progress: Progress, track: Track = untracked) -> dict[str, Any]:
        """Train to the last step. Returns the last step's record.

        Raises EmtError where loss or gradient are not finite.
        """
        config = self.config
        warmup = warmup_steps(config.steps, config.warmup_ratio, config.warmup_steps)
        self._say = progress.say
        kept = self._saved = self._resume()
        first = self.accelerator.is_main_process
        log = StepsLog(self.steps_path, after=kept, track=track) if first else None
        tokens = int(log.last.get("tokens") or 0) if log else 0
        saved_at = time.monotonic()
        with progress.track("training", config.steps, done=kept, unit="steps") as tracker:
            for step, batch in self.reader.batches(kept + 1):
                rate = cosine_rate(
                    step, peak=config.learning_rate, steps=config.steps, warmup=warmup
                )
                result = self._step(step, batch, rate)
                tokens += result.tokens
                if log is not None:  # rank 0 writes
                    log.write(step, self._record(step, result, rate, tokens))
                if step in config.kept_steps:
                    self._keep_policy(step)
                due = time.monotonic() - saved_at >= CHECKPOINT_SECONDS
                if agree(self.accelerator, due) and step < config.steps:
                    self._save(step)
                    saved_at = time.monotonic()
                tracker.doing = f"training, loss {result.loss:.4f}"
                tracker.advance()
        return log.last if log else {}

    def _resume(self) -> int:
        """Step that training goes on from; policies of later steps are removed."""
        checkpoint = self.checkpoints.latest()
        step = checkpoint.step if checkpoint else 0
        if checkpoint:
            restore_state(self.accelerator, checkpoint.path, self.module, self.optimizer)
            if self.average:
                self.average.read(checkpoint.path)
        if self.accelerator.is_main_process:
            for folder in self.policies.glob("step-*"):
                if int(folder.name.removeprefix("step-")) > step:
                    shutil.rmtree(folder)
        self.accelerator.wait_for_everyone()  # nobody writes before everybody has read
        return step

    def _save(self, step: int) -> None:
        """A checkpoint, written by rank 0; all ranks call it."""
        write_state = state_writer(self.accelerator, self.module, self.optimizer)
        averaged = self.average.gathered() if self.average else {}

        def write(folder: Path) -> None:
            write_state(folder)
            if averaged:
                write_average(folder, averaged)

        if self.accelerator.is_main_process:
            self.checkpoints.save(step, write)
        self._saved = step

    def _keep_policy(self, step: int) -> None:
        """The policy of this step, written by rank 0; all ranks call it."""
        weights = gather_weights(self.accelerator, self.module)
        if self.average:
            weights |= self.average.gathered()
        if self.accelerator.is_main_process:
            spec = replace(self.spec, step=step)
            folder = self.policies / f"step-{step}"
            plain = merged(weights, self.config.lora_alpha, torch.float32)
            save_policy(folder, self.vla, self.processor, spec, plain)

    def _stop(self, step: int, batch: Batch, result: StepResult) -> None:
        """Keep the state of the step before, since this one is not taken, and raise EmtError."""
        if step - 1 != self._saved:
            self._save(step - 1)
        self.accelerator.wait_for_everyone()  # torchrun ends all ranks when the first one fails
        check_finite(
            step,
            loss=result.loss,
            grad_norm=result.grad_norm,
            samples=self.reader.names(batch),
            kept=step - 1,
        )

    # ---- one step

    def _step(self, step: int, batch: Batch, rate: float) -> StepResult:
        while True:
            try:
                seed_step(self.config.seed, step)
                result = self._gradients(batch)
                break
            except (MemoryError, RuntimeError) as error:
                self.part = half_of(
                    self.part,
                    error,
                    say=self._say,
                    least=1 if self.ranks == 1 else self.part,  # the others wait for this pass
                    what="fine-tuning",
                    where=self.device,
                    remedy="set runtime.batch lower, or use a device with more memory",
                )
        if not finite(result.loss, result.grad_norm):
            self._stop(step, batch, result)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        if self.average:
            self.average.update(step)
        return result

    def _gradients(self, batch: Batch) -> StepResult:
        """Gradients of the whole batch, in parts that fit; ranks exchange them in the last part."""
        self.optimizer.zero_grad(set_to_none=True)
        losses = torch.zeros(3)
        tokens = 0
        for start in range(0, len(batch.rows), self.part):
            part = slice(start, start + self.part)
            last = start + self.part >= len(batch.rows)
            frames = batch.frames[part].to(self.device)
            with torch.no_grad():
                inputs = self.prompts.batch(
                    augment(frames, self.config.augment, batch.draws[part]), batch.texts[part]
                )
            with nullcontext() if last else self.accelerator.no_sync(self.module):
                loss = action_loss(
                    self.module(inputs),
                    batch.targets[part].to(self.device),
                    steps=batch.steps,
                    binary=self.spec.action_map.binary,
                    gripper_weight=self.config.gripper_weight,
                )
                # DDP takes the mean of the ranks' gradients; the batch's is their sum
                self.accelerator.backward(loss.total * self.ranks)
            losses += torch.stack([loss.total, loss.arm, loss.gripper]).detach().cpu()
            own = max(batch.own - start, 0)
            tokens += int(inputs.model["attention_mask"][:own].sum())
        total, arm, gripper, all_tokens = self._sums([*losses.tolist(), tokens])
        return StepResult(
            loss=total,
            loss_arm=arm,
            loss_gripper=gripper,
            grad_norm=self._clip(),
            tokens=int(all_tokens),
        )

    def _sums(self, values: list[float]) -> list[float]:
        """Sums over the ranks, in float64."""
        if self.ranks == 1:
            return values
        summed: Any = self.accelerator.reduce(
            torch.tensor(values, dtype=torch.float64, device=self.device), "sum"
        )
        return summed.tolist()

    def _clip(self) -> float:
        """Clip to clip_norm; returns the norm before, the query's left out.

        The query is clipped apart: a zero vector behind an RMSNorm has a gradient a thousand times
        everything else's (12,697 against 12 on the tiny VLM), which would scale all other gradients
        down to Adam's epsilon.
        """
        others = [p for p in self.vla.parameters() if p.requires_grad and p is not self.vla.query]
        self.accelerator.clip_grad_norm_([self.vla.query], self.config.clip_norm)
        norm: Any = self.accelerator.clip_grad_norm_(others, self.config.clip_norm)
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def _record(self, step: int, result: StepResult, rate: float, tokens: int) -> dict[str, Any]:
        return {
            "loss": result.loss,
            "loss_arm": result.loss_arm,
            "loss_gripper": result.loss_gripper if self.spec.action_map.gripper else None,
            "learning_rate": rate,
            "grad_norm": result.grad_norm,
            "samples": step * self.config.batch,
            "tokens": tokens,
            "memory_mb": _memory_mb(self.device),
        }


def _memory_mb(device: torch.device) -> float:
    """Peak of the device's memory; on the CPU what the process holds now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(psutil.Error):
        return psutil.Process().memory_info().rss / 2**20
    return 0.0
