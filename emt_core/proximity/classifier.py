"""Training of a classifier of robot against pool on frozen features, linear or not.

`train_classifier` is the loop that the linear estimator and the MLP share; the rest is what it is
given (`Training`, `Examples`, the feature scaling) and what it gives back (`History`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from emt_core.proximity.metrics.rank_agreement import overlap_at, share_of
from emt_core.proximity.metrics.ranking import balanced_weights
from emt_core.recipe.proximity import EstimatorConfig, MlpMeasure

if TYPE_CHECKING:
    import torch

TINY_DEVIATION = 1e-3
"""Of the median deviation: a dimension that moves less is left out, because standardizing it would
give its noise a huge weight."""


LEAST_RANKED = 20
"""Of fewer pool rows, a best fifth that agrees or not is chance."""

AGREEMENT_SHARE = 0.2
"""Best share of the pool on which two halves of the seeds are compared."""

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
    """How much of the best fifth of the validation part's pool two halves of the members share."""

    kept: int | None = None
    """The step whose parameters were kept, where nothing ended the training before `steps`."""

    def columns(self) -> dict[str, list[float]]:
        """By name, one entry a step."""
        return {name: values for name, values in vars(self).items() if name != "kept"}


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

    Where nothing did and the steps ran out ("steps"), the parameters are those of the look with the
    lowest held-out loss (History.kept), not the last ones, which may have overfitted long since.
    An accuracy above 1 asks for exactly so many steps (trust/stability.py).
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
    best = Best(parameters)
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
                val_logits = logits_of(val_x).numpy()
            look, reason = stop.look(step, val_logits)
            best.look(step, look.loss)
        history.step.append(step)
        history.loss.append(losses.mean().item())
        history.train_accuracy.append(float(((logits > 0) == (target > 0.5)).double().mean()))
        history.val_loss.append(look.loss)
        history.val_accuracy.append(look.accuracy)
        history.agreement.append(look.agreement)
        on_step(history)
        if reason:
            return history, reason
    if config.stop_accuracy <= 1:
        history.kept = best.restore()
    return history, "steps"


class Best:
    """The parameters of the look with the lowest held-out loss; of equal ones, the first."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self._parameters = parameters
        self._kept: list[torch.Tensor] = []
        self._step = 0
        self._loss = float("inf")

    def look(self, step: int, loss: float) -> None:
        if loss < self._loss:
            self._step = step
            self._loss = loss
            self._kept = [parameter.detach().clone() for parameter in self._parameters]

    def restore(self) -> int:
        """Give the parameters their values of that look; returns its step, 0 without one."""
        for parameter, kept in zip(self._parameters, self._kept, strict=bool(self._kept)):
            parameter.data.copy_(kept)
        return self._step


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

    Settled: at least min_steps, and two halves of the members put nearly the same pool rows into
    the best fifth. Accuracy alone ends the training of separable features at the first look, where
    the weights are hardly more than the signs of the first gradients. Neither held-out loss nor the
    agreement with earlier looks tells when to stop: on separable features the loss falls and the
    ranking drifts on for thousands of steps, past its best (docs/measures.md has the figures).
    """

    def __init__(self, config: Training, validation: Examples) -> None:
        self.config = config
        self.robot = validation.robot
        self.weights = validation.weights
        self.losses: dict[int, float] = {}
        """Step -> held-out loss."""

    def look(self, step: int, logits: np.ndarray) -> tuple[Look, str]:
        """(figures, reason to stop or ""). logits: float64 [members, validation rows]."""
        config = self.config
        score = logits.mean(axis=0)
        sign = np.where(self.robot, 1.0, -1.0)
        loss = float(np.logaddexp(0, -sign * score) @ self.weights)
        accuracy = float(((score > 0) == self.robot) @ self.weights)
        agreement = halves_agree(logits[:, ~self.robot])
        found = Look(loss, accuracy, agreement)
        reached = accuracy >= config.stop_accuracy
        if config.stop == "accuracy":
            return found, "accuracy" if reached else ""
        self.losses[step] = loss
        if step < config.min_steps:
            return found, ""
        if reached:
            # a single network has no halves that could disagree
            disagree = isinstance(config, EstimatorConfig) and agreement < config.min_agreement
            return found, "" if disagree else "accuracy"
        before = self.losses.get(step // 2 // config.eval_every * config.eval_every, np.inf)
        return found, "loss" if loss > before else ""


def halves_agree(logits: np.ndarray) -> float:
    """How much of the best fifth of some rows two halves of the members have in common.

    logits: float [members, rows]. NaN for one member, or for fewer than LEAST_RANKED rows. Means
    over all members agree with others of their kind better than these halves do.
    """
    half = len(logits) // 2
    if not half or logits.shape[1] < LEAST_RANKED:
        return float("nan")
    one = logits[:half].mean(axis=0)
    other = logits[half:].mean(axis=0)
    return overlap_at(one, other, share_of(AGREEMENT_SHARE, len(one)))


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
