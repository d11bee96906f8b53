"""Which layout seeds belong to training and which to evaluation.

Demonstrations are recorded from TRAIN_SEEDS alone, episodes are evaluated on EVAL_SEEDS alone, so
no evaluated layout has been seen in training. Plain Python: the recorder, the evaluator and their
tests all import it.
"""

from __future__ import annotations

from emt_core.errors import EmtError

TRAIN_SEEDS = range(10_000)
EVAL_SEEDS = range(10_000, 1_000_000)


def check_train_seed(seed: int) -> int:
    """The seed itself. Raises EmtError where it is one that demonstrations must not use."""
    return _check(seed, TRAIN_SEEDS, "demonstrations")


def check_eval_seed(seed: int) -> int:
    """The seed itself. Raises EmtError where it is one that evaluation must not use."""
    return _check(seed, EVAL_SEEDS, "evaluation")


def _check(seed: int, allowed: range, use: str) -> int:
    if seed not in allowed:
        raise EmtError(
            f"layout seed {seed} is not one of {use}",
            remedy=f"{use} uses {allowed.start} to {allowed.stop - 1}: training and evaluation "
            "never share a layout",
        )
    return seed
