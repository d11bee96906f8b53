"""The training loop of a VLA: full fine-tuning on frames of the cache, resumable to the same weights.

    steps.jsonl                 a line a step (training/steps_log.py), with loss_arm and loss_gripper
    checkpoints/step-N/         the newest two states, while training runs (training/checkpoints.py)
    policies/step-N/            a policy for each kept step (policy.py)

A step is a function of its number: which frames, how they are changed, which rate. So a killed run that goes on from
its checkpoint ends with the weights of one that was never killed (on one kind of device). Under torchrun each rank
passes a share of the batch (peers.py); rank 0 keeps the books.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from emt_core.data.robot.training_frames import FrameOrder, TrainingFrames
from emt_core.errors import EmtError
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.training.checkpoints import Checkpoints, read_training_state, write_training_state
from emt_core.training.optimizer import build_optimizer, check_finite, finite
from emt_core.training.policy.augment import augment, draws_of
from emt_core.training.policy.loss import ActionTargets, action_loss
from emt_core.training.policy.peers import Peers
from emt_core.training.policy.policy import PolicySpec, autocast, prompt_builder, save_policy
from emt_core.training.policy.vla import VLA
from emt_core.training.schedule import cosine_rate, seed_of, seed_step, set_rate, warmup_steps
from emt_core.training.steps_log import StepsLog
from emt_core.workspace.progress import Progress, Tracker

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
class StepFacts:
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
        device: torch.device,
        dtype: torch.dtype,
        part: int,
    ) -> None:
        """spec: of the policy to be, its step is filled in. part: frames a forward pass at the most; halved by itself
        where a GPU's memory runs out."""
        self.config, self.processor, self.spec, self.frames = config, processor, spec, frames
        self.device, self.dtype, self.part = device, dtype, min(part, config.batch)
        self.peers = Peers(device)
        if config.batch < self.peers.world:
            raise EmtError(
                f"a batch of {config.batch} cannot be shared by {self.peers.world} ranks",
                where="finetune.batch",
            )
        self.vla = vla.to(device).train()
        self.prompts = prompt_builder(processor, spec)
        self.optimizer = build_optimizer(self.vla, weight_decay=config.weight_decay)
        self.order = FrameOrder(len(frames), config.batch, config.seed)
        self.checkpoints = Checkpoints(out / "checkpoints")
        self.policies, self.steps_path = out / "policies", out / "steps.jsonl"

    def run(self, progress: Progress) -> dict[str, Any]:
        """Train to the last step. Returns the last step's record. Raises EmtError where the loss is not finite."""
        kept = self._saved = self._resume()
        log = StepsLog(self.steps_path, after=kept) if self.peers.first else None
        tokens, saved_at = int(log.last.get("tokens") or 0) if log else 0, time.monotonic()
        with progress.track("training", self.config.steps, done=kept, unit="steps") as tracker:
            for step, batch in self._batches(kept + 1):
                rate = cosine_rate(
                    step,
                    peak=self.config.learning_rate,
                    steps=self.config.steps,
                    warmup=warmup_steps(
                        self.config.steps, self.config.warmup_ratio, self.config.warmup_steps
                    ),
                )
                facts = self._step(step, batch, rate)
                tokens += facts.tokens
                if log is None:  # another rank keeps the books
                    continue
                log.write(step, self._record(step, facts, rate, tokens))
                if step in self.config.kept_steps:
                    save_policy(
                        self.policies / f"step-{step}",
                        self.vla,
                        self.processor,
                        self._spec_at(step),
                    )
                last = step == self.config.steps
                if not last and time.monotonic() - saved_at >= CHECKPOINT_SECONDS:
                    self._save(step)
                    saved_at = time.monotonic()
                _report(tracker, facts)
        return log.last if log else {}

    def _resume(self) -> int:
        """Step of the checkpoint that training goes on from; policies of later steps are made again."""
        found = self.checkpoints.latest()
        step = found.step if found else 0
        if found:
            read_training_state(found.path, self.vla, self.optimizer)
        for folder in self.policies.glob("step-*") if self.peers.first else ():
            if int(folder.name.removeprefix("step-")) > step:
                shutil.rmtree(folder)
        self.peers.wait()  # all have read the checkpoint before it can be replaced
        return step

    def _save(self, step: int) -> None:
        self.checkpoints.save(
            step, lambda folder: write_training_state(folder, self.vla, self.optimizer)
        )
        self._saved = step

    def _stop(self, step: int, batch: Batch, facts: StepFacts) -> None:
        """The step is not taken, so weights and moments are those of the step before it: they are kept."""
        if self.peers.first and step - 1 != self._saved:
            self._save(step - 1)
        self.peers.wait()  # torchrun ends all ranks when the first one fails
        samples = [self._name(row) for row in batch.rows.tolist()]
        check_finite(
            step, loss=facts.loss, grad_norm=facts.grad_norm, samples=samples, kept=step - 1
        )

    # ---- data

    def _name(self, row: int) -> str:
        """Where a frame comes from, in words: data set, episode, and its place in it (from 0)."""
        place, at = int(self.frames.place[row]), int(self.frames.cache_row[row])
        first, episode = max((f, e) for e, f in self.frames.caches[place].first.items() if f <= at)
        name = self.config.data[place].name if self.config.data else "demos"
        return f"{name} episode {episode} frame {at - first}"

    def _batches(self, first: int) -> Iterator[tuple[int, Batch]]:
        """(step, batch) to the last step; the next batch is read while the present one is computed."""
        steps = range(first, self.config.steps + 1)
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, first) if steps else None
            for step in steps:
                assert ahead is not None
                batch = ahead.result()
                ahead = reader.submit(self._read, step + 1) if step < self.config.steps else None
                yield step, batch

    def _read(self, step: int) -> Batch:
        everyone = self.order.rows(step - 1)
        steps = float(self.frames.valid_steps(everyone, self.config.chunk))
        draws = draws_of(len(everyone), seed_of(self.config.seed, "augment", step))
        mine = self.peers.share(len(everyone))
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

    def _step(self, step: int, batch: Batch, rate: float) -> StepFacts:
        while True:
            try:
                seed_step(self.config.seed, step)
                facts = self._gradients(batch)
                break
            except torch.OutOfMemoryError:
                if self.part == 1 or self.peers.world > 1:  # the others are waiting for this pass
                    raise
                self.part = max(self.part // 2, 1)
                torch.cuda.empty_cache()
        if not finite(facts.loss, facts.grad_norm):
            self._stop(step, batch, facts)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        return facts

    def _gradients(self, batch: Batch) -> StepFacts:
        """Gradients of the whole batch, in parts that fit."""
        self.optimizer.zero_grad(set_to_none=True)
        sums, tokens = torch.zeros(3), 0
        for start in range(0, len(batch.rows), self.part):
            part = slice(start, start + self.part)
            frames = batch.frames[part].to(self.device)
            with torch.no_grad():
                inputs = self.prompts.batch(
                    augment(frames, self.config.augment, batch.draws[part]), batch.texts[part]
                )
            with autocast(self.device, self.dtype):
                output = self.vla(inputs)
            loss = action_loss(
                output,
                batch.targets[part].to(self.device),
                steps=batch.steps,
                binary=self.spec.action_map.binary,
                gripper_weight=self.config.gripper_weight,
            )
            loss.total.backward()
            sums += torch.stack([loss.total, loss.arm, loss.gripper]).detach().cpu()
            tokens += int(inputs.model["attention_mask"].sum())
        self.peers.add_up([p.grad for p in self.vla.parameters() if p.grad is not None])
        total, arm, gripper, tokens = self.peers.sums([*sums.tolist(), tokens])
        norm = float(self._clip())
        return StepFacts(
            loss=total, loss_arm=arm, loss_gripper=gripper, grad_norm=norm, tokens=int(tokens)
        )

    def _clip(self) -> torch.Tensor:
        """Clip to clip_norm; returns the norm before, the query's left out.

        The query is clipped apart: a zero vector behind an RMSNorm has a gradient a thousand times everything else's
        (12,697 against 12 on the tiny VLM), which would scale all other gradients down to Adam's epsilon.
        """
        others = [p for p in self.vla.parameters() if p.requires_grad and p is not self.vla.query]
        torch.nn.utils.clip_grad_norm_([self.vla.query], self.config.clip_norm)
        return torch.nn.utils.clip_grad_norm_(others, self.config.clip_norm)

    def _record(self, step: int, facts: StepFacts, rate: float, tokens: int) -> dict[str, Any]:
        return {
            "loss": facts.loss,
            "loss_arm": facts.loss_arm,
            "loss_gripper": facts.loss_gripper if self.spec.action_map.gripper else None,
            "learning_rate": rate,
            "grad_norm": facts.grad_norm,
            "samples": step * self.config.batch,
            "tokens": tokens,
            "memory_mb": _memory_mb(self.device),
        }

    def _spec_at(self, step: int) -> PolicySpec:
        return replace(self.spec, step=step)


def _memory_mb(device: torch.device) -> float:
    """Peak of the device's memory; on the CPU what the process holds now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(psutil.Error):
        return psutil.Process().memory_info().rss / 2**20
    return 0.0


def _report(tracker: Tracker, facts: StepFacts) -> None:
    tracker.doing = f"training, loss {facts.loss:.4f}"
    tracker.advance()
