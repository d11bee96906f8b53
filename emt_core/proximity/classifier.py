"""Training of a classifier of robot against pool on frozen features, linear or not.

`train_classifier` is the loop that the linear estimator and the MLP share; the rest is what it is
given (`Training`, `Examples`, the feature scaling) and what it gives back (`History`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from emt_core.proximity.metrics.rank_agreement import spearman
from emt_core.proximity.metrics.ranking import balanced_weights
from emt_core.recipe.proximity import EstimatorConfig, MlpMeasure

if TYPE_CHECKING:
    import torch

TINY_DEVIATION = 1e-3
"""Of the median deviation: a dimension that moves less is left out, because standardizing it would
give its noise a huge weight."""


LEAST_RANKED = 3
"""Fewer held-out pool rows have no ranking that could settle."""

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
    """One entry a step; the last three columns are NaN where not measured."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    """Rank correlation of the validation part's pool rows with half as many steps."""


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

    Several classifiers (members) train side by side, each on its own batches, and stop together:
    what is validated is their mean logit. batches: float64 [members, batch, dim] each, the robot
    half first; logits_of: scaled features float64 [members, n, dim], or [n, dim] for all members,
    -> float64 [members, n]. Returns the history and what ended the training (Stop.reason).
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
    history = History()
    stop = Stop(config, validation)
    for step, batch in enumerate(batches, start=1):
        logits = logits_of((torch.from_numpy(batch) - shift) * factor)
        losses = bce(logits, target.expand_as(logits), reduction="none").mean(dim=1)
        optimizer.zero_grad()
        losses.sum().backward()  # members share no parameter: each sees its own loss alone
        optimizer.step()
        look = Look()
        reason = ""
        if step % config.eval_every == 0 or step == config.steps:
            with torch.no_grad():
                val_logits = logits_of(val_x).mean(dim=0).numpy()
            look, reason = stop.look(step, val_logits)
        history.step.append(step)
        history.loss.append(losses.mean().item())
        history.train_accuracy.append(float(((logits > 0) == (target > 0.5)).double().mean()))
        history.val_loss.append(look.loss)
        history.val_accuracy.append(look.accuracy)
        history.agreement.append(look.agreement)
        on_step(history)
        if reason:
            return history, reason
    return history, "steps"


@dataclass(frozen=True)
class Look:
    """What a look at the validation part shows; NaN where there was none."""

    loss: float = float("nan")
    accuracy: float = float("nan")
    agreement: float = float("nan")


class Stop:
    """When a training ends, decided at each look at the validation part.

    reason  accuracy  the accuracy asked for is reached, and unless config.stop is `accuracy` (the
                      paper's plain reading) the ranking has settled as well
            loss      held-out loss is higher than at half as many steps and that accuracy is not
                      reached: the classes overlap

    Settled: at least min_steps, and held-out pool rows stand in nearly the order that they had at
    half as many steps. Accuracy alone ends the training of separable features at the first look,
    where the weights are hardly more than the signs of the first gradients; held-out loss goes on
    falling long after the ranking is at its best (docs/measures.md has the figures).
    """

    def __init__(self, config: Training, validation: Examples) -> None:
        self.config = config
        self.robot = validation.robot
        self.weights = validation.weights
        self.looks: dict[int, tuple[float, np.ndarray]] = {}
        """Step -> (held-out loss, float32 logits of the pool rows)."""

    def look(self, step: int, logits: np.ndarray) -> tuple[Look, str]:
        """(figures, reason to stop or ""). logits: float64 [validation rows]."""
        config = self.config
        sign = np.where(self.robot, 1.0, -1.0)
        loss = float(np.logaddexp(0, -sign * logits) @ self.weights)
        accuracy = float(((logits > 0) == self.robot) @ self.weights)
        if config.stop == "accuracy":
            reached = accuracy >= config.stop_accuracy
            return Look(loss, accuracy), "accuracy" if reached else ""
        pool = logits[~self.robot].astype(np.float32)
        self.looks[step] = (loss, pool)
        half = step // 2 // config.eval_every * config.eval_every
        if half not in self.looks:
            return Look(loss, accuracy), ""
        loss_before, pool_before = self.looks[half]
        agreement = spearman(pool, pool_before)
        settled = agreement >= config.min_agreement or len(pool) < LEAST_RANKED
        reason = ""
        if step >= config.min_steps and accuracy >= config.stop_accuracy and settled:
            reason = "accuracy"
        elif step >= config.min_steps and accuracy < config.stop_accuracy and loss > loss_before:
            reason = "loss"
        return Look(loss, accuracy, agreement), reason


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
