"""The loop of mid-training, over accelerate: one device, several (DDP) or sharded (FSDP) alike.

A step's loss is the mean over all supervised tokens of its global batch, whatever device or pass
they fell to, so micro-batch and number of devices change nothing but rounding. A step is taken only
if loss and gradient are finite.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from emt_core.models.halving import half_of
from emt_core.models.vlm.batch import move
from emt_core.training.midtrain.memory import peak_memory_mb
from emt_core.training.midtrain.micro_batch import MicroBatch, Plan
from emt_core.training.optimizer import check_finite, finite
from emt_core.training.pull import Pull
from emt_core.training.schedule import cosine_rate, seed_step, set_rate, warmup_steps

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from emt_core.recipe.midtrain import MidtrainConfig

Steps = Callable[[int, int, Plan], Generator[list[MicroBatch], None, None]]
"""`Feed.steps`: (first step, step after the last one, plan) -> the micro-batches of each."""


@dataclass(kw_only=True)
class StepResult:
    """What one step says of itself; sums are over all ranks."""

    step: int
    loss: float | None
    """None where no token of the step was supervised."""

    grad_norm: float | None
    penalty: float | None
    """Of the distance from the origin (`midtrain.l2_sp`), not in `loss`."""

    learning_rate: float
    samples: int
    tokens: int
    supervised: int
    memory_mb: float
    data_wait: float = 0.0
    """Share of the step's time that this rank waited for its data."""

    rejected: list[dict[str, str]] = field(default_factory=list)


@dataclass(kw_only=True)
class Trainer:
    """Steps of mid-training. module, optimizer: as `accelerator.prepare` gave them back."""

    accelerator: Accelerator
    module: torch.nn.Module
    optimizer: torch.optim.Optimizer
    steps: Steps
    config: MidtrainConfig
    plan: Plan
    pull: Pull | None = None
    say: Callable[[str], None] = print

    def run(self, after: int, *, before_failure: Callable[[int], None]) -> Iterator[StepResult]:
        """Steps after+1..config.steps.

        before_failure(step): keeps the state, which is that of the last good step (0: training has
        not begun). Raises EmtError where loss or gradient are not finite (the step is not taken),
        or where one sample does not fit.
        """
        step = after + 1
        while step <= self.config.steps:
            passes = self.steps(step, self.config.steps + 1, self.plan)
            begun = time.monotonic()
            try:
                for batches in passes:
                    waited = time.monotonic() - begun
                    result = self._step(step, batches, before_failure)
                    result.data_wait = waited / max(time.monotonic() - begun, 1e-9)
                    yield result
                    step += 1
                    begun = time.monotonic()  # log and checkpoints are no waiting for data
            except (MemoryError, RuntimeError) as error:
                self._halve(error)  # the step that failed begins again
            finally:
                passes.close()  # ends the workers

    def _step(
        self, step: int, batches: list[MicroBatch], before_failure: Callable[[int], None]
    ) -> StepResult:
        import torch

        device = self.accelerator.device
        seed_step(self.config.seed, step, self.accelerator.process_index)
        counts = [(len(b.ids), b.tokens, b.supervised) for b in batches]
        samples, tokens, supervised = self._sum(torch.tensor(counts, device=device).sum(0)).tolist()
        loss = self._accumulate(batches, max(supervised, 1))
        rate = cosine_rate(
            step,
            peak=self.config.learning_rate,
            steps=self.config.steps,
            warmup=warmup_steps(
                self.config.steps, self.config.warmup_ratio, self.config.warmup_steps
            ),
            least=self.config.min_rate,
        )
        mean = norm = penalty = None
        if supervised:
            mean = self._sum(loss).item() / supervised
            if self.pull is not None:
                penalty = self.pull.add_gradient()
            clipped: Any = self.accelerator.clip_grad_norm_(
                self.module.parameters(), self.config.clip_norm
            )
            norm = float(clipped)
            if not finite(mean, norm):
                ids = self._gathered([sample for batch in batches for sample in batch.ids])
                before_failure(step - 1)
                check_finite(step, loss=mean, grad_norm=norm, samples=ids, kept=step - 1)
            set_rate(self.optimizer, rate)
            self.optimizer.step()
        return StepResult(
            step=step,
            loss=mean,
            grad_norm=norm,
            penalty=penalty,
            learning_rate=rate,
            samples=samples,
            tokens=tokens,
            supervised=supervised,
            memory_mb=peak_memory_mb(device),
            rejected=self._gathered([reject for batch in batches for reject in batch.rejected]),
        )

    def _accumulate(self, batches: list[MicroBatch], supervised: int) -> torch.Tensor:
        """Gradients of all passes. Returns this rank's summed loss [1].

        supervised: tokens over all ranks.
        """
        import torch

        accelerator = self.accelerator
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(1, device=accelerator.device)
        # DDP takes the mean of the ranks' gradients: their sum is the mean times the ranks
        share = accelerator.num_processes / supervised
        for batch in batches:
            # gradients are exchanged between ranks once a step, in its last pass
            last = batch is batches[-1]
            with nullcontext() if last else accelerator.no_sync(self.module):
                inputs = move(batch.inputs, accelerator.device)
                loss = self.module(inputs, batch.labels.to(accelerator.device))
                accelerator.backward(loss * share)
            total += loss.detach()
        return total

    def _sum(self, value: torch.Tensor) -> torch.Tensor:
        if self.accelerator.num_processes == 1:
            return value
        return self.accelerator.reduce(value, "sum")  # pyright: ignore[reportReturnType]

    def _gathered(self, entries: list[Any]) -> list[Any]:
        """Of all ranks, on every rank."""
        if self.accelerator.num_processes == 1:
            return entries
        from accelerate.utils import gather_object

        return gather_object(entries)

    def _halve(self, error: BaseException) -> None:
        """Smaller passes from here on. Raises EmtError where they cannot be."""
        micro = self.plan.micro
        alone = self.accelerator.num_processes == 1
        remedy = (
            "set runtime.batch lower"
            if micro > 1
            else "use a device with more memory, a smaller cutoff, optimizer: adamw_8bit"
            " or gradient checkpointing"
        )
        self.optimizer.zero_grad(set_to_none=True)  # before half_of gives the memory back
        half = half_of(
            micro,
            error,
            say=self.say,
            least=1 if alone else micro,  # the other ranks are waiting for this pass
            what="training",
            where=self.accelerator.device,
            remedy=remedy,
        )
        self.plan = replace(self.plan, micro=half)


@dataclass
class Cadence:
    """True every `seconds`: checkpoints cost a share of the time, however long a step takes."""

    seconds: float
    last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        if time.monotonic() - self.last < self.seconds:
            return False
        self.last = time.monotonic()
        return True
