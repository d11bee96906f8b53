"""The paper's proximity estimator (method section 4): logistic regression on frozen features, stopped early.

    s(x) = sigmoid(w . phi(x) + b)      label 1: robot, 0: pool      s / (1 - s) estimates p_robot(x) / p_pool(x)

Departures, with reasons. The start is w = 0 (the paper does not say): the problem is convex, and from zero an early
stop means "no more certain than the data have made it". Arithmetic is float64: 100 steps of 128 x d cost nothing, and
the float32 weights then do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emt_core.proximity.classifier import Examples, History, Training, train_classifier

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class LinearEstimator:
    """logit = weight . phi + bias on the raw feature. weight float32 [dim], bias float32 [1]."""

    weight: np.ndarray
    bias: np.ndarray
    history: History
    stopped: str
    """`accuracy`: the validation accuracy asked for was reached. `steps`: it was not."""

    def logits(self, x: np.ndarray) -> np.ndarray:
        """float32 [n]."""
        return (x.astype(np.float64) @ self.weight.astype(np.float64) + float(self.bias[0])).astype(
            np.float32
        )


def train(
    config: Training,
    batches: Iterable[np.ndarray],
    validation: Examples,
    *,
    mean: np.ndarray,
    scale: np.ndarray,
    on_step: Callable[[History], None] = lambda history: None,
) -> LinearEstimator:
    """Train until validation accuracy reaches config.stop_accuracy, or the batches (float64, robots first) end."""
    import torch

    weight = torch.zeros(len(mean), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    history, stopped = train_classifier(
        config,
        batches,
        validation,
        [weight, bias],
        lambda x: x @ weight + bias,
        mean=mean,
        scale=scale,
        on_step=on_step,
    )
    raw = weight.detach().numpy() * scale
    return LinearEstimator(
        weight=raw.astype(np.float32),
        bias=np.array([float(bias.detach()) - float(raw @ mean)], np.float32),
        history=history,
        stopped=stopped,
    )
