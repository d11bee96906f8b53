"""A dry run of mid-training: what memory it is expected to take, what it takes, and how a step would be cut up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emt_core.errors import EmtError
from emt_core.models.encoders.batches import is_out_of_memory
from emt_core.training.midtrain.batches import Plan
from emt_core.training.midtrain.conversations import REASONS, Refused
from emt_core.training.midtrain.memory import Expected, release_memory
from emt_core.training.midtrain.memory_probe import measure_step
from emt_core.training.midtrain.micro_batch import fit_of, is_given, plan_of

if TYPE_CHECKING:
    from emt_core.recipe.base import Runtime
    from emt_core.training.midtrain.conversations import ConversationPreparer
    from emt_core.training.midtrain.session import Session


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
    """Most in use during a step of `plan.micro` of the largest sample; on a CPU what the process grew by since
    `before`."""


def dry_run(
    session: Session, preparer: ConversationPreparer, runtime: Runtime, *, before: int
) -> DryRun:
    """Two steps on the largest sample that the settings allow; the session's moments are spoilt by it.

    before: resident bytes of this process before the model was loaded. Raises EmtError where not even one sample fits,
    or the cutoff has no room for any.
    """
    accelerator, config = session.accelerator, session.config
    try:
        fit = fit_of(session, preparer)
    except Refused as refused:
        raise EmtError(
            f"no sample can be made to measure with: {REASONS[refused.reason]} ({refused.detail})",
            where="midtrain.cutoff",
            remedy="set a larger cutoff; `emt check-model` shows what the model's template writes",
        ) from refused
    plan = plan_of(session, preparer, runtime, fit=fit)
    while True:
        try:
            peak = measure_step(session, fit.item, plan.micro)
            break
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if plan.micro == 1 or plan.world > 1:
                raise EmtError(
                    f"memory runs out with {plan.micro} of the largest samples a pass",
                    where=str(accelerator.device),
                    remedy="set runtime.batch lower, a smaller cutoff, optimizer: adamw_8bit or"
                    " runtime.gradient_checkpointing",
                ) from error
            plan = Plan(batch=plan.batch, micro=plan.micro // 2)  # as training does
        session.optimizer.zero_grad(set_to_none=True)
        release_memory()
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
