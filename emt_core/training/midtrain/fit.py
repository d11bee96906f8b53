"""How many samples a pass takes: as the recipe says, as a resumed run began, or what fits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from emt_core.models.prepared import Refused
from emt_core.recipe.base import Runtime
from emt_core.recipe.midtrain import MidtrainConfig
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.forecast import forecast_of
from emt_core.training.midtrain.memory import (
    Expected,
    available_memory,
    expected_memory,
    held_memory,
)
from emt_core.training.midtrain.memory_probe import largest_item, probe_memory
from emt_core.training.midtrain.micro_batch import Plan, TrainingItem
from emt_core.training.midtrain.session import Session

SMALL = 10
"""On a CPU a model is measured where weights, gradients and moments fit so often into what is free:
to count takes seconds, but a kernel kills who measures too much."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What the largest sample takes, and what there is."""

    item: TrainingItem
    expected: Expected
    available: int
    """Bytes, what training holds already included."""

    def largest(self, bound: int) -> int:
        """Samples a pass, at most `bound`; 1, to be tried, where not even that should fit."""
        return max(self.expected.largest_micro(self.available, bound), 1)


def plan_of(
    session: Session, preparer: ConversationPreparer, runtime: Runtime, *, fit: Fit | None = None
) -> Plan:
    """How a step is cut up, the same on all ranks. fit: where it is known already.

    What a resumed run began with, because another micro-batch rounds otherwise; else `first_plan`.
    """
    accelerator = session.accelerator
    world = accelerator.num_processes
    rank = accelerator.process_index
    chosen = not is_given(runtime) and not session.sharded
    if chosen and session.resumed is not None and "micro" in session.resumed.facts:
        micro = min(int(session.resumed.facts["micro"]), bound_of(session.config, runtime, world))
    else:
        if chosen and fit is None:
            try:
                fit = fit_of(session, preparer)
            except Refused:  # a cutoff that no example of ours fits
                fit = None
        micro = first_plan(session.config, runtime, fit if chosen else None, world=world).micro
    if chosen and world > 1:
        from accelerate.utils import gather_object

        micro = min(gather_object([micro]))
    return Plan(batch=session.config.batch, micro=micro, world=world, rank=rank)


def first_plan(
    config: MidtrainConfig, runtime: Runtime, fit: Fit | None, *, world: int = 1
) -> Plan:
    """How rank 0 cuts up a step of a run that begins.

    `runtime.batch` samples a pass where the recipe gives it, or under FSDP; else the largest number
    that is expected to fit, up to `runtime.batch`'s default. fit: None, where nothing is known.
    """
    micro = bound_of(config, runtime, world)
    if fit is not None and not is_given(runtime) and runtime.sharding == "none":
        micro = fit.largest(micro)
    return Plan(batch=config.batch, micro=micro, world=world)


def bound_of(config: MidtrainConfig, runtime: Runtime, world: int) -> int:
    """Most samples that a pass of one of `world` devices may have."""
    return min(runtime.batch, -(-config.batch // world))


def is_given(runtime: Runtime) -> bool:
    """Whether the recipe says how many samples a pass takes."""
    return "batch" in runtime.model_fields_set


def fit_of(session: Session, preparer: ConversationPreparer) -> Fit:
    """Measured on the session's model; counted where even to measure might take all memory.

    Raises Refused where the cutoff has no room for a sample.
    """
    accelerator = session.accelerator
    config = session.config
    device = accelerator.device
    world = accelerator.num_processes
    item = largest_item(
        preparer, max_images=config.max_images, max_image_pixels=config.max_image_pixels
    )
    pulled = session.pull.bytes if session.pull else 0
    held = held_memory(session.module, session.optimizer) + pulled
    available = free_for(device, world) + held
    if device.type == "cpu" and SMALL * _fixed(session) > available:
        forecast = forecast_of(
            session.vlm.config,
            config,
            item,
            torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32,
            devices=world,
            sharded=session.sharded,
            recompute=session.vlm.is_gradient_checkpointing,
        )
        if forecast.whole:
            return Fit(item=item, expected=forecast.expected, available=available)
    expected = probe_memory(
        session.vlm, item, device, accelerator.autocast, optimizer=config.optimizer, devices=world
    )
    expected = replace(expected, weights=expected.weights + pulled)
    return Fit(item=item, expected=expected, available=available)


def _fixed(session: Session) -> int:
    counts = session.parameters
    return expected_memory(counts["all"], counts["trained"], session.config.optimizer).fixed


def free_for(device: torch.device, world: int) -> int:
    """Bytes free for one of `world` ranks."""
    free = available_memory(device)
    return free // world if device.type == "cpu" else free  # on CPUs they share one memory
