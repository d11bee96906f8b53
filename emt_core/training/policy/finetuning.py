"""The training loop of a VLA: full fine-tuning on cached frames, resumable to the same weights.

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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch

from emt_core.data.robot.training_frames import FrameOrder, TrainingFrames
from emt_core.errors import EmtError
from emt_core.models.halving import half_of
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.training.checkpoints import Checkpoints, read_training_state, write_training_state
from emt_core.training.devices import is_sharded
from emt_core.training.optimizer import build_optimizer, check_finite, finite
from emt_core.training.policy.augment import augment, draws_of
from emt_core.training.policy.loss import ActionTargets, action_loss
from emt_core.training.policy.policy import PolicySpec, prompt_builder, save_policy
from emt_core.training.policy.vla import VLA
from emt_core.training.schedule import cosine_rate, seed_of, seed_step, set_rate, warmup_steps
from emt_core.training.steps_log import StepsLog, Track, untracked
from emt_core.workspace.progress import Progress

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECKPOINT_SECONDS = 300.0
"""Work that a kill may cost."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """This rank's frames of one step, on the CPU.

    rows: int64 [n]; frames: uint8 [n, 3, s, s]; draws: float32 [n, 7] of `augment`.
    """

    rows: np.ndarray
    frames: torch.Tensor
    texts: list[str]
    targets: ActionTargets
    draws: torch.Tensor
    steps: float
    """Actions that the step learns from, over all ranks."""


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
    ) -> None:
        """spec: of the policies that are saved; each gets its step. part: frames in one forward
        pass, at most; it is halved when a GPU's memory runs out.

        Raises EmtError for more ranks than frames a batch, and under FSDP.
        """
        self.accelerator = accelerator
        self.device = accelerator.device
        self.ranks = accelerator.num_processes
        if config.batch < self.ranks:
            raise EmtError(
                f"a batch of {config.batch} cannot be shared by {self.ranks} ranks",
                where="finetune.batch",
            )
        if is_sharded(accelerator):
            raise EmtError(
                "fine-tuning keeps a whole policy on each device and cannot be sharded",
                where="runtime.sharding",
                remedy="set runtime.sharding: none for finetune",
            )
        self.config = config
        self.processor = processor
        self.spec = spec
        self.frames = frames
        self.part = min(part, config.batch)
        self.prompts = prompt_builder(processor, spec)
        self.order = FrameOrder(len(frames), config.batch, config.seed)
        self.checkpoints = Checkpoints(out / "checkpoints")
        self.policies = out / "policies"
        self.steps_path = out / "steps.jsonl"
        self.vla = vla.to(self.device).train()
        optimizer = build_optimizer(self.vla, weight_decay=config.weight_decay)
        self.module, self.optimizer = accelerator.prepare(self.vla, optimizer)
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
            for step, batch in self._batches(kept + 1):
                rate = cosine_rate(
                    step, peak=config.learning_rate, steps=config.steps, warmup=warmup
                )
                result = self._step(step, batch, rate)
                tokens += result.tokens
                if log is None:  # rank 0 writes
                    continue
                log.write(step, self._record(step, result, rate, tokens))
                if step in config.kept_steps:
                    spec = replace(self.spec, step=step)
                    save_policy(self.policies / f"step-{step}", self.vla, self.processor, spec)
                if step < config.steps and time.monotonic() - saved_at >= CHECKPOINT_SECONDS:
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
            read_training_state(checkpoint.path, self.vla, self.optimizer)
        if self.accelerator.is_main_process:
            for folder in self.policies.glob("step-*"):
                if int(folder.name.removeprefix("step-")) > step:
                    shutil.rmtree(folder)
        self.accelerator.wait_for_everyone()  # nobody writes before everybody has read
        return step

    def _save(self, step: int) -> None:
        self.checkpoints.save(
            step, lambda folder: write_training_state(folder, self.vla, self.optimizer)
        )
        self._saved = step

    def _stop(self, step: int, batch: Batch, result: StepResult) -> None:
        """Keep the state of the step before, since this one is not taken, and raise EmtError."""
        if self.accelerator.is_main_process and step - 1 != self._saved:
            self._save(step - 1)
        self.accelerator.wait_for_everyone()  # torchrun ends all ranks when the first one fails
        samples = [self._name(row) for row in batch.rows.tolist()]
        check_finite(
            step, loss=result.loss, grad_norm=result.grad_norm, samples=samples, kept=step - 1
        )

    # ---- data

    def _name(self, row: int) -> str:
        """Where a frame comes from, in words: data set, episode, and its place in it (from 0)."""
        place = int(self.frames.place[row])
        at = int(self.frames.cache_row[row])
        begun = [(f, e) for e, f in self.frames.caches[place].first.items() if f <= at]
        first, episode = max(begun)
        name = self.config.data[place].name if self.config.data else "demos"
        return f"{name} episode {episode} frame {at - first}"

    def _batches(self, first: int) -> Iterator[tuple[int, Batch]]:
        """(step, batch) to the last step; the next is read while this one is computed."""
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, first)
            for step in range(first, self.config.steps + 1):
                batch = ahead.result()
                if step < self.config.steps:
                    ahead = reader.submit(self._read, step + 1)
                yield step, batch

    def _read(self, step: int) -> Batch:
        everyone = self.order.rows(step - 1)
        steps = float(self.frames.valid_steps(everyone, self.config.chunk))
        draws = draws_of(len(everyone), seed_of(self.config.seed, "augment", step))
        mine = slice(self.accelerator.process_index, None, self.ranks)
        rows = everyone[mine]
        actions, valid, reference = self.frames.chunks(rows, self.config.chunk)
        arm, gripper = self.spec.action_map.targets(actions, reference)
        return Batch(
            rows=rows,
            frames=torch.from_numpy(self.frames.pixels(rows)).permute(0, 3, 1, 2),
            texts=[self.frames.texts[place] for place in self.frames.instruction[rows]],
            targets=ActionTargets(
                arm=torch.from_numpy(arm),
                gripper=torch.from_numpy(gripper),
                valid=torch.from_numpy(valid),
            ),
            draws=draws[mine],
            steps=steps,
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
            tokens += int(inputs.model["attention_mask"].sum())
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
        return float(norm)

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
