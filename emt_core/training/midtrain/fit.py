"""How many samples a pass takes: as the recipe says, as a resumed run began, or what fits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from emt_core.models.prepared import Refused
from emt_core.recipe.base import Runtime
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.memory import Expected, available_memory, held_memory
from emt_core.training.midtrain.memory_probe import largest_item, probe_memory
from emt_core.training.midtrain.micro_batch import Plan, TrainingItem
from emt_core.training.midtrain.session import Session


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
    """How a step is cut up, the same on all ranks. fit: where it is measured already.

    `runtime.batch` where the recipe gives it. Else what a resumed run began with, because another
    micro-batch rounds otherwise. Else the largest that is expected to fit, up to `runtime.batch`'s
    default.
    """
    accelerator = session.accelerator
    world = accelerator.num_processes
    bound = min(runtime.batch, -(-session.config.batch // world))
    if is_given(runtime) or session.sharded:
        micro = bound  # what FSDP leaves on each device is not counted here
    elif session.resumed is not None and "micro" in session.resumed.facts:
        micro = min(int(session.resumed.facts["micro"]), bound)
    else:
        try:
            micro = (fit or fit_of(session, preparer)).largest(bound)
        except Refused:  # a cutoff that no example of ours fits
            micro = bound
        if world > 1:
            from accelerate.utils import gather_object

            micro = min(gather_object([micro]))
    rank = accelerator.process_index
    return Plan(batch=session.config.batch, micro=micro, world=world, rank=rank)


def is_given(runtime: Runtime) -> bool:
    """Whether the recipe says how many samples a pass takes."""
    return "batch" in runtime.model_fields_set


def fit_of(session: Session, preparer: ConversationPreparer) -> Fit:
    """Measured on the session's model. Raises Refused where the cutoff has no room for a sample."""
    accelerator = session.accelerator
    config = session.config
    device = accelerator.device
    world = accelerator.num_processes
    item = largest_item(
        preparer, max_images=config.max_images, max_image_pixels=config.max_image_pixels
    )
    expected = probe_memory(
        session.vlm, item, device, accelerator.autocast, optimizer=config.optimizer, devices=world
    )
    pulled = session.pull.bytes if session.pull else 0
    expected = replace(expected, weights=expected.weights + pulled)
    free = available_memory(device)
    if device.type == "cpu":
        free //= world  # the ranks share one memory
    held = held_memory(session.module, session.optimizer) + pulled
    return Fit(item=item, expected=expected, available=free + held)
