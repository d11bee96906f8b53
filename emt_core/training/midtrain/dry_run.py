"""A dry run of mid-training: the memory it is expected to take, and what two steps do take.

What can be counted is known before the model is loaded; a run that cannot fit is not tried, because
on a CPU the kernel kills who takes too much, and no error comes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from emt_core.errors import EmtError
from emt_core.models.device import choose_dtype
from emt_core.models.halving import half_of
from emt_core.models.identity import locate_model
from emt_core.models.prepared import Refused
from emt_core.models.vlm.batch import move
from emt_core.models.vlm.load import load_config
from emt_core.models.weights import parameters_of
from emt_core.recipe.base import Runtime
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.run.device import choose_device
from emt_core.training.midtrain.conversations import REASONS, ConversationPreparer
from emt_core.training.midtrain.fit import Fit, first_plan, fit_of, free_for, is_given, plan_of
from emt_core.training.midtrain.forecast import forecast_of
from emt_core.training.midtrain.memory import PeakMemory, size_text
from emt_core.training.midtrain.memory_probe import largest_item
from emt_core.training.midtrain.micro_batch import Plan, TrainingItem, collate
from emt_core.training.midtrain.session import Session, open_preparer
from emt_core.workspace.process import world_size

STEPS = 2
"""Steps whose memory is measured: the optimizer's moments exist from the end of the first on."""

LESS = (
    "set runtime.batch lower, a smaller cutoff, update: lora, optimizer: adamw_8bit or"
    " runtime.gradient_checkpointing"
)
"""What helps where a step does not fit."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What is known before the model is loaded. Bytes, on this rank's device."""

    device: torch.device
    dtype: torch.dtype
    tokens: int
    """Of the largest sample, those of its images included."""

    image_tokens: int
    fit: Fit
    plan: Plan
    """As training would take it up."""

    given: bool
    """The recipe says how many samples a pass takes."""

    whole: bool = True
    """Whether activations could be counted; else they are measured on the loaded model."""

    @property
    def expected(self) -> int:
        """Most that is in use during a step."""
        return self.fit.expected.total(self.plan.micro)

    @property
    def fits(self) -> int:
        """Samples a pass that are expected to fit, at most the device's share of a step."""
        share = -(-self.plan.batch // self.plan.world)
        return self.fit.expected.largest_micro(self.fit.available, share)

    def check_fits(self) -> None:
        """Raises EmtError where a step cannot fit.

        A GPU says by itself when it is full, and the pass is halved then: there only what not even
        one sample a pass could have is refused.
        """
        micro = self.plan.micro if self.device.type == "cpu" else 1
        needed = self.fit.expected.total(micro)
        if needed <= self.fit.available:
            return
        fits = self.fits
        room = f"{fits} a pass would fit" if fits else "not even one would fit"
        raise EmtError(
            f"a step with {micro} {'samples' if micro > 1 else 'sample'} a pass takes"
            f" {size_text(needed)}, and {size_text(self.fit.available)} are free on {self.device}:"
            f" it is not tried ({room})",
            where="midtrain",
            remedy=LESS if fits or self.device.type == "cuda" else f"{LESS}; or several devices",
        )


def forecast_run(config: MidtrainConfig, runtime: Runtime, base: Path) -> DryRun:
    """What a step is expected to take, counted; no weights are read.

    Raises EmtError where the model is not understood, or the cutoff has no room for any sample.
    """
    model = str(locate_model(config.model, base))
    preparer = open_preparer(config, model, config.revision)
    try:
        item = largest_item(
            preparer, max_images=config.max_images, max_image_pixels=config.max_image_pixels
        )
    except Refused as refused:
        raise EmtError(
            f"no sample can be made to measure with: {REASONS[refused.reason]} ({refused.detail})",
            where="midtrain.cutoff",
            remedy="set a larger cutoff; `emt check-model` shows what the model's template writes",
        ) from refused
    device = choose_device(runtime.device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    parameters = parameters_of(model, config.revision, base)
    dtype = choose_dtype(config.precision, device, parameters)
    world = world_size()
    forecast = forecast_of(
        load_config(model, config.revision),
        config,
        item,
        dtype,
        devices=world,
        sharded=runtime.sharding == "fsdp",
        recompute=runtime.gradient_checkpointing,
    )
    fit = Fit(item=item, expected=forecast.expected, available=free_for(device, world))
    return DryRun(
        device=device,
        dtype=dtype,
        tokens=item.length,
        image_tokens=int(np.isin(item.tokens["input_ids"], preparer.image_ids).sum()),
        fit=fit,
        plan=first_plan(config, runtime, fit, world=world),
        given=is_given(runtime),
        whole=forecast.whole,
    )


def with_activations(
    dry_run: DryRun, session: Session, preparer: ConversationPreparer, runtime: Runtime
) -> DryRun:
    """The same with what the loaded model shows, where counting could not tell."""
    if dry_run.whole:
        return dry_run
    fit = fit_of(session, preparer)
    return replace(dry_run, fit=fit, plan=plan_of(session, preparer, runtime, fit=fit), whole=True)


def measured_run(dry_run: DryRun, session: Session, *, before: int) -> tuple[int, Plan]:
    """Two steps on the largest sample; they spoil the session's moments. Returns the most bytes in
    use, and the plan that fitted (a GPU may have had no room for the first one).

    before: resident bytes of this process before the model was loaded: on a CPU its growth counts.
    Raises EmtError where not even one sample fits.
    """
    plan = dry_run.plan
    peak = 0
    while not peak:
        try:
            peak = measure_step(session, dry_run.fit.item, plan)
        except (MemoryError, RuntimeError) as error:
            session.optimizer.zero_grad(set_to_none=True)  # before half_of gives the memory back
            half = half_of(
                plan.micro,
                error,
                say=lambda _: None,  # what is printed in the end names the smaller pass
                least=1 if plan.world == 1 else plan.micro,  # as training does
                what="a step of the largest samples",
                where=session.accelerator.device,
                remedy=LESS,
            )
            plan = replace(plan, micro=half)
    return peak - (before if dry_run.device.type == "cpu" else 0), plan


def measure_step(session: Session, item: TrainingItem, plan: Plan) -> int:
    """Most bytes in use while steps of such samples are taken, optimizer included.

    Of a step's passes two are made: the second one finds the gradients of the first, as all after
    it do. The rate is 0, so weights stay; moments do not. Raises the device's own error where it
    does not fit.
    """
    accelerator = session.accelerator
    batch = collate([item] * plan.micro, 0)
    with PeakMemory(accelerator.device) as peak:
        for _ in range(STEPS):
            session.optimizer.zero_grad(set_to_none=True)
            for _ in range(min(plan.passes, 2)):
                inputs = move(batch.inputs, accelerator.device)
                loss = session.module(inputs, batch.labels.to(accelerator.device))
                accelerator.backward(loss / batch.supervised)
                del loss
            accelerator.clip_grad_norm_(session.module.parameters(), session.config.clip_norm)
            session.optimizer.step()
    return peak.bytes
