"""What a training step is, as functions of its number: learning rate and random state.

Nothing here has a state, so a resumed run has nothing to restore and cannot restore it wrongly.
"""

from __future__ import annotations

import hashlib
import math


def warmup_steps(steps: int, ratio: float, given: int | None = None) -> int:
    """Steps of linear warm-up: `given` if set, else the ratio, rounded up as transformers does."""
    return math.ceil(steps * ratio) if given is None else min(given, steps)


def cosine_rate(step: int, *, peak: float, steps: int, warmup: int, least: float = 0.0) -> float:
    """Learning rate of step 1..steps: linear from 0 over `warmup` steps, half a cosine to `least`.

    The same numbers as transformers' `get_cosine_schedule_with_warmup` and, above 0,
    `get_cosine_with_min_lr_schedule_with_warmup`, whose first step has rate 0.
    """
    if not 1 <= step <= steps:
        raise ValueError(f"step {step} is not one of 1..{steps}")
    done = step - 1
    if done < warmup:
        return peak * done / warmup
    progress = (done - warmup) / max(steps - warmup, 1)
    return least + (peak - least) * 0.5 * (1 + math.cos(math.pi * progress))


def set_rate(optimizer, rate: float) -> None:
    """Give every parameter group this learning rate, times its own `factor` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


def seed_of(*facts: int | str) -> int:
    """A 63-bit seed from what it is for, e.g. `seed_of(seed, "epoch", 3)`, by hash."""
    digest = hashlib.sha256("/".join(map(str, facts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch for one step (dropout): random numbers depend on the step alone."""
    import torch

    torch.manual_seed(seed_of(seed, "step", step, rank))
