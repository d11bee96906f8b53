"""The training loop of mid-training, over accelerate: one device, several (torchrun, DDP) or sharded (FSDP) alike.

A step's loss is the mean over all supervised tokens of its global batch, whatever device or pass they fell to, so
micro-batch and number of devices change nothing but rounding. A step is taken only if loss and gradient are finite.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError
from emt_core.models.encoders.batches import is_out_of_memory
from emt_core.training.midtrain.batches import Feed, MicroBatch, Plan
from emt_core.training.midtrain.memory import peak_memory_mb, release_memory
from emt_core.training.optimizer import check_finite, finite
from emt_core.training.schedule import cosine_rate, seed_step, set_rate, warmup_steps

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from emt_core.recipe.midtrain import MidtrainConfig


@dataclass(kw_only=True)
class StepResult:
    """What one step says of itself; sums are over all ranks. loss: None where no token of it was supervised."""

    step: int
    loss: float | None
    grad_norm: float | None
    learning_rate: float
    samples: int
    tokens: int
    supervised: int
    memory_mb: float
    rejected: list[dict[str, str]] = field(default_factory=list)


@dataclass(kw_only=True)
class Trainer:
    """Steps of mid-training. module, optimizer: as `accelerator.prepare` gave them back."""

    accelerator: Accelerator
    module: torch.nn.Module
    optimizer: torch.optim.Optimizer
    feed: Feed
    config: MidtrainConfig
    plan: Plan
    say: Callable[[str], None] = print

    def run(self, after: int, *, before_failure: Callable[[int], None]) -> Iterator[StepResult]:
        """Steps after+1..config.steps. before_failure(step): keeps the state, which is that of the last good step (0:
        training has not begun).

        Raises EmtError where loss or gradient are not finite (the step is not taken), or one sample does not fit.
        """
        step = after + 1
        while step <= self.config.steps:
            passes = self.feed.steps(step, self.config.steps + 1, self.plan)
            try:
                for batches in passes:
                    yield self._step(step, batches, before_failure)
                    step += 1
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
            finally:
                passes.close()  # type: ignore[attr-defined]  # ends the workers

    def _step(
        self, step: int, batches: list[MicroBatch], before_failure: Callable[[int], None]
    ) -> StepResult:
        import torch

        rank, device = self.accelerator.process_index, self.accelerator.device
        seed_step(self.config.seed, step, rank)
        rejected = [reject for batch in batches for reject in batch.rejected]
        counts = torch.tensor(
            [
                [
                    sum(len(b.ids) for b in batches),
                    sum(b.tokens for b in batches),
                    sum(b.supervised for b in batches),
                ]
            ],
            device=device,
        )
        samples, tokens, supervised = self._sum(counts)[0].tolist()
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(1, device=device)
        for place, batch in enumerate(batches):
            inputs = {name: self._to_device(value) for name, value in batch.inputs.items()}
            last = place == len(batches) - 1
            with _sync(self.accelerator, self.module, last):
                loss = self.module(inputs, batch.labels.to(device))
                # DDP takes the mean of the ranks' gradients: the sum over ranks is the mean times their number
                self.accelerator.backward(
                    loss * (self.accelerator.num_processes / max(supervised, 1))
                )
            total += loss.detach()
        rate = cosine_rate(
            step,
            peak=self.config.learning_rate,
            steps=self.config.steps,
            warmup=warmup_steps(
                self.config.steps, self.config.warmup_ratio, self.config.warmup_steps
            ),
        )
        mean = norm = None
        if supervised:
            mean = self._sum(total).item() / supervised
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
            learning_rate=rate,
            samples=samples,
            tokens=tokens,
            supervised=supervised,
            memory_mb=peak_memory_mb(device),
            rejected=self._gathered(rejected),
        )

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

    def _to_device(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self.accelerator.device, non_blocking=True)

    def _halve(self, error: BaseException) -> None:
        """Smaller passes from here on: the step that failed begins again."""
        if self.accelerator.num_processes > 1 or self.plan.micro == 1:
            raise EmtError(
                f"memory runs out with {self.plan.micro} samples a pass",
                where=str(self.accelerator.device),
                remedy="set runtime.batch lower"
                if self.plan.micro > 1
                else "use a device with more memory, a smaller cutoff, optimizer: adamw_8bit or gradient checkpointing",
            ) from error
        self.optimizer.zero_grad(set_to_none=True)
        release_memory()
        micro = self.plan.micro // 2
        self.say(f"out of memory with {self.plan.micro} samples a pass; going on with {micro}")
        self.plan = Plan(
            batch=self.plan.batch, micro=micro, world=self.plan.world, rank=self.plan.rank
        )


def _sync(accelerator: Accelerator, module: torch.nn.Module, last: bool) -> Any:
    """Gradients are exchanged between ranks once a step, in its last pass."""
    from contextlib import nullcontext

    return nullcontext() if last else accelerator.no_sync(module)


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
