"""A dry run of mid-training: the memory it is expected to take, and what two steps do take."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from emt_core.errors import EmtError
from emt_core.models.halving import half_of
from emt_core.models.prepared import Refused
from emt_core.models.vlm.batch import move
from emt_core.recipe.base import Runtime
from emt_core.training.midtrain.conversations import REASONS, ConversationPreparer
from emt_core.training.midtrain.fit import fit_of, is_given, plan_of
from emt_core.training.midtrain.memory import Expected, PeakMemory
from emt_core.training.midtrain.micro_batch import Plan, TrainingItem, collate
from emt_core.training.midtrain.session import Session

STEPS = 2
"""Steps whose memory is measured: the optimizer's moments exist from the end of the first on."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Bytes, on this rank's device."""

    device: str
    precision: str
    tokens: int
    """Of the largest sample, those of its images included."""

    image_tokens: int
    expected: Expected
    available: int
    """What training may take: what is free now and what it holds already."""

    plan: Plan
    """As training would take it up."""

    given: bool
    """The recipe says how many samples a pass takes."""

    fits: int
    """Samples a pass that are expected to fit, at most the device's share of a step."""

    measured: int
    """Most in use during a step of `plan.micro` of the largest sample; on a CPU what the process
    grew by since `before`."""


def dry_run(
    session: Session, preparer: ConversationPreparer, runtime: Runtime, *, before: int
) -> DryRun:
    """Two steps on the largest sample that the settings allow; they spoil the session's moments.

    before: resident bytes of this process before the model was loaded. Raises EmtError where not
    even one sample fits, or the cutoff has no room for any.
    """
    accelerator = session.accelerator
    config = session.config
    try:
        fit = fit_of(session, preparer)
    except Refused as refused:
        raise EmtError(
            f"no sample can be made to measure with: {REASONS[refused.reason]} ({refused.detail})",
            where="midtrain.cutoff",
            remedy="set a larger cutoff; `emt check-model` shows what the model's template writes",
        ) from refused
    plan = plan_of(session, preparer, runtime, fit=fit)
    peak = 0
    while not peak:
        try:
            peak = measure_step(session, fit.item, plan.micro)
        except (MemoryError, RuntimeError) as error:
            session.optimizer.zero_grad(set_to_none=True)  # before half_of gives the memory back
            half = half_of(
                plan.micro,
                error,
                say=lambda _: None,  # what is printed in the end names the smaller pass
                least=1 if plan.world == 1 else plan.micro,  # as training does
                what="a step of the largest samples",
                where=accelerator.device,
                remedy="set runtime.batch lower, a smaller cutoff, optimizer: adamw_8bit or"
                " runtime.gradient_checkpointing",
            )
            plan = replace(plan, micro=half)
    return DryRun(
        device=str(accelerator.device),
        precision=accelerator.mixed_precision.replace("no", "float32"),
        tokens=fit.item.length,
        image_tokens=int(np.isin(fit.item.tokens["input_ids"], preparer.image_ids).sum()),
        expected=fit.expected,
        available=fit.available,
        plan=plan,
        given=is_given(runtime),
        fits=fit.expected.largest_micro(fit.available, -(-config.batch // plan.world)),
        measured=peak - (before if accelerator.device.type == "cpu" else 0),
    )


def measure_step(session: Session, item: TrainingItem, micro: int) -> int:
    """Most bytes in use while steps of `micro` such samples are taken, optimizer included.

    The rate is 0, so weights stay; moments do not. Raises the device's own error where it does not
    fit.
    """
    accelerator = session.accelerator
    batch = collate([item] * micro, 0)
    with PeakMemory(accelerator.device) as peak:
        for _ in range(STEPS):
            session.optimizer.zero_grad(set_to_none=True)
            inputs = move(batch.inputs, accelerator.device)
            loss = session.module(inputs, batch.labels.to(accelerator.device))
            accelerator.backward(loss / batch.supervised)
            accelerator.clip_grad_norm_(session.module.parameters(), session.config.clip_norm)
            session.optimizer.step()
            del loss
    return peak.bytes
