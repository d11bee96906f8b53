"""Training of a classifier of robot against pool on frozen features, linear or not.

`train_classifier` is the loop that the linear estimator and the MLP share; the rest is what it is
given (`Training`, `Examples`, the feature scaling) and what it gives back (`History`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from emt_core.proximity.metrics.ranking import balanced_weights
from emt_core.recipe.proximity import EstimatorConfig, MlpMeasure

if TYPE_CHECKING:
    import torch

TINY_DEVIATION = 1e-3
"""Of the median deviation: a dimension that moves less is left out, because standardizing it would
give its noise a huge weight."""


Training = EstimatorConfig | MlpMeasure
"""The settings of the training loop."""


@dataclass(frozen=True)
class Examples:
    """Rows of a split, read into memory."""

    x: np.ndarray
    """float64 [n, dim]."""
    robot: np.ndarray
    """bool [n]."""
    stratum: np.ndarray
    """int [n]: 0 for the pool, k for the k-th robot set."""
    rows: np.ndarray
    """int64 [n]: index rows."""

    @property
    def weights(self) -> np.ndarray:
        """Half of the mass to the robots (each set equally), half to the pool."""
        return balanced_weights(self.robot, self.stratum)


@dataclass
class History:
    """One entry a step; val columns are NaN where not measured."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)


def train_classifier(
    config: Training,
    batches: Iterable[np.ndarray],
    validation: Examples,
    parameters: Sequence[torch.Tensor],
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    *,
    mean: np.ndarray,
    scale: np.ndarray,
    on_step: Callable[[History], None] = lambda history: None,
) -> tuple[History, str]:
    """Minimize logistic loss on balanced batches with an early stop; changes `parameters` in place.

    batches: float64 [batch, dim] each, the robot half first; logits_of: scaled features float64
    [n, dim] -> float64 [n]. Returns the history and what ended the training: `accuracy` or `steps`.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as bce

    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    shift = torch.from_numpy(mean)
    factor = torch.from_numpy(scale)
    target = torch.zeros(config.batch, dtype=torch.float64)
    target[: config.batch // 2] = 1
    val_x = (torch.from_numpy(validation.x) - shift) * factor
    val_target = torch.from_numpy(validation.robot.astype(np.float64))
    val_weights = torch.from_numpy(validation.weights)
    history = History()
    for step, batch in enumerate(batches, start=1):
        logits = logits_of((torch.from_numpy(batch) - shift) * factor)
        loss = bce(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        val_loss = val_accuracy = float("nan")
        if step % config.eval_every == 0 or step == config.steps:
            with torch.no_grad():
                val_logits = logits_of(val_x)
                val_loss = float(bce(val_logits, val_target, weight=val_weights, reduction="sum"))
                val_right = (val_logits > 0) == (val_target > 0.5)
                val_accuracy = float(val_right.double() @ val_weights)
        history.step.append(step)
        history.loss.append(loss.item())
        history.train_accuracy.append(float(((logits > 0) == (target > 0.5)).double().mean()))
        history.val_loss.append(val_loss)
        history.val_accuracy.append(val_accuracy)
        on_step(history)
        if val_accuracy >= config.stop_accuracy:
            return history, "accuracy"
    return history, "steps"


def scaling(
    x: np.ndarray, weights: np.ndarray, *, standardize: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(mean, 1 / deviation), float64 [dim] each, of the weighted rows; (0, 1) where not wanted."""
    if not standardize:
        return np.zeros(x.shape[1]), np.ones(x.shape[1])
    mean = np.average(x, axis=0, weights=weights)
    deviation = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))
    moving = deviation > max(TINY_DEVIATION * float(np.median(deviation)), 1e-12)
    return mean, np.where(moving, 1 / np.where(moving, deviation, 1), 0.0)
