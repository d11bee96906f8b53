"""AdamW, which parameters decay, and whether a step may be taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from emt_core.errors import EmtError
from emt_core.run.requirements import require

if TYPE_CHECKING:
    import torch

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""transformers' and LLaMA-Factory's defaults; the paper gives none."""


def same_rate(name: str) -> float:
    """The factor of a parameter's learning rate where all are trained alike."""
    return 1.0


def decay_groups(
    model: torch.nn.Module,
    weight_decay: float,
    factor_of: Callable[[str], float] = same_rate,
) -> list[dict[str, Any]]:
    """Parameter groups of what is trained: matrices decay; norms, biases and vectors do not.

    factor_of: parameter name -> what its learning rate is multiplied by (schedule.set_rate).
    """
    trained = [
        (factor_of(name), parameter)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    if not trained:
        raise EmtError(
            "every part of the model is frozen: there is nothing to train", remedy="unfreeze a part"
        )
    groups: list[dict[str, Any]] = []
    for factor in sorted({factor for factor, _ in trained}):
        parameters = [parameter for own, parameter in trained if own == factor]
        matrices = [parameter for parameter in parameters if parameter.ndim > 1]
        others = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups.append({"params": matrices, "weight_decay": weight_decay, "factor": factor})
        groups.append({"params": others, "weight_decay": 0.0, "factor": factor})
    return [group for group in groups if group["params"]]


def build_optimizer(
    model: torch.nn.Module,
    *,
    weight_decay: float = 0.0,
    kind: Literal["adamw", "adamw_8bit"] = "adamw",
    betas: tuple[float, float] = BETAS,
    factor_of: Callable[[str], float] = same_rate,
) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters; the rate is set at every step (schedule.set_rate).

    adamw_8bit: states in 8 bits (bitsandbytes): 2 bytes a parameter instead of 8. Raises EmtError
    where it is missing, or the model is not on a GPU.
    """
    import torch

    groups = decay_groups(model, weight_decay, factor_of)
    device = groups[0]["params"][0].device
    if kind == "adamw_8bit":
        require(kind, where="optimizer: adamw_8bit", gpu=device.type == "cuda")
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]

        return AdamW8bit(groups, lr=0.0, betas=betas, eps=EPSILON)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=EPSILON, fused=device.type == "cuda")


def finite(loss: float, grad_norm: float) -> bool:
    """Whether a step may be taken."""
    return math.isfinite(loss) and math.isfinite(grad_norm)


def check_finite(
    step: int, *, loss: float, grad_norm: float, samples: Sequence[str], kept: int
) -> None:
    """Raises EmtError where loss or gradient is not finite: the step must not be taken.

    samples: ids of the step's batch. kept: step whose state is in the newest checkpoint; 0: no step
    was taken.
    """
    if finite(loss, grad_norm):
        return
    what = "loss" if not math.isfinite(loss) else "gradient"
    shown = ", ".join(samples[:8]) + (f" and {len(samples) - 8} more" if len(samples) > 8 else "")
    raise EmtError(
        f"the {what} became {loss if what == 'loss' else grad_norm} at step {step}",
        where=f"batch: {shown}",
        remedy=(
            f"the state after step {kept} is kept; " if kept else "no step was taken before it; "
        )
        + "lower learning_rate, or exclude the batch's broken sample, and run again",
    )
