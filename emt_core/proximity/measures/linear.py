"""The paper's proximity estimator (method section 4): logistic regression on frozen features.

    s(x) = sigmoid(w . phi(x) + b)      label 1: robot, 0: pool
    s / (1 - s) estimates p_robot(x) / p_pool(x)

Three choices of our own. Training starts at w = 0 (the paper does not say where): the problem is
convex, and from zero an early stop means "no more certain than the data have made it". Several
trainings on different batches (members) are averaged, and how far they are apart says how much of
a sample's score is chance. Arithmetic is float64: 100 steps of 8 x 128 x dim cost nothing, and the
float32 weights then do not depend on the number of threads.

weights.safetensors   weight float32 [dim], bias float32 [1], for the raw feature: the mean of
                      members float32 [seeds, dim], member_bias float32 [seeds]; beside it the
                      files of heldout.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs, ScoreOf
from emt_core.proximity.classifier import Examples, History, halves_agree, train_classifier
from emt_core.proximity.heldout import write_heldout
from emt_core.proximity.prepared import prepare, training_progress
from emt_core.proximity.stream import stream_logits
from emt_core.recipe.proximity import EstimatorConfig

LOGIT = True
FILE = "weights.safetensors"


def fit(config: EstimatorConfig, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Train it and measure it on episodes it never saw. Raises EmtError where a part is empty."""
    from safetensors.numpy import save_file

    data = prepare(inputs.index, inputs.features, config)
    batches = data.draws.batches(config.batch, config.steps, members=config.seeds)
    with training_progress(inputs.progress, config) as report:
        estimator = train(
            config, batches, data.validation, mean=data.mean, scale=data.scale, on_step=report
        )
    save_file(
        {
            "weight": estimator.weight,
            "bias": estimator.bias,
            "members": estimator.members,
            "member_bias": estimator.member_bias,
        },
        out / FILE,
        metadata={"formula": "logit = weight . phi + bias on the raw feature"},
    )
    test = data.test()
    logits = estimator.logits(test.x)
    agreement = halves_agree((test.x[~test.robot] @ estimator.members.T + estimator.member_bias).T)
    metrics = write_heldout(out, logits, test, estimator.history, estimator.stopped, inputs.index)
    return {
        **metrics,
        **data.facts(),
        "seeds": config.seeds,
        "seed_agreement": None if np.isnan(agreement) else agreement,
    }


def scores(
    config: EstimatorConfig, inputs: Inputs, fitted: Path, start: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Also each score's spread: the members' standard deviation."""
    weight, bias = load_weights(fitted, inputs.features.dim)
    return stream_logits(inputs.features, weight, bias, members=load_members(fitted), start=start)


def score_of(config: EstimatorConfig, fitted: Path, dim: int) -> ScoreOf:
    weight, bias = load_weights(fitted, dim)
    return lambda x: linear_logits(x, weight, bias)


@dataclass(frozen=True)
class LinearEstimator:
    """logit = weight . phi + bias on the raw feature. weight float32 [dim], bias float32 [1]."""

    weight: np.ndarray
    bias: np.ndarray
    members: np.ndarray
    """float32 [seeds, dim], whose mean is `weight`."""

    member_bias: np.ndarray
    """float32 [seeds]."""

    history: History
    stopped: str
    """What ended the training: see classifier.Stop."""

    def logits(self, x: np.ndarray) -> np.ndarray:
        """float32 [n] of float [n, dim]."""
        return linear_logits(x, self.weight, float(self.bias[0]))


def train(
    config: EstimatorConfig,
    batches: Iterable[np.ndarray],
    validation: Examples,
    *,
    mean: np.ndarray,
    scale: np.ndarray,
    on_step: Callable[[History], None] = lambda history: None,
) -> LinearEstimator:
    """Train config.seeds members until they may stop (classifier.Stop), or the batches end.

    batches: float64 [seeds, batch, dim] each, robot rows first.
    """
    import torch

    weight = torch.zeros(config.seeds, len(mean), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(config.seeds, dtype=torch.float64, requires_grad=True)

    def logits_of(x: torch.Tensor) -> torch.Tensor:
        products = x @ weight.T if x.dim() == 2 else torch.einsum("mnd,md->nm", x, weight)
        return (products + bias).T

    history, stopped = train_classifier(
        config,
        batches,
        validation,
        [weight, bias],
        logits_of,
        mean=mean,
        scale=scale,
        on_step=on_step,
    )
    # it was trained on (x - mean) * scale: fold both into weights for the raw feature
    raw = weight.detach().numpy() * scale
    raw_bias = bias.detach().numpy() - raw @ mean
    return LinearEstimator(
        weight=raw.mean(axis=0).astype(np.float32),
        bias=raw_bias.mean(keepdims=True).astype(np.float32),
        members=raw.astype(np.float32),
        member_bias=raw_bias.astype(np.float32),
        history=history,
        stopped=stopped,
    )


def linear_logits(x: np.ndarray, weight: np.ndarray, bias: float) -> np.ndarray:
    """float32 [n] of float [n, dim], summed in float64."""
    return (x.astype(np.float64) @ weight.astype(np.float64) + bias).astype(np.float32)


def load_weights(folder: Path, dim: int) -> tuple[np.ndarray, float]:
    """(weight float32 [dim], bias) of a trained estimator.

    Raises EmtError where they belong to features of another width or are not finite.
    """
    from safetensors.numpy import load_file

    stored = load_file(folder / FILE)
    weight = stored["weight"].reshape(-1)
    bias = float(stored["bias"].reshape(-1)[0])
    if weight.shape != (dim,):
        raise EmtError(
            f"the estimator has {weight.size} weights, the features {dim} dimensions",
            where=folder / FILE,
            remedy="train the estimator on this embed instance (`parents: {embed: ...}`)",
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias)):
        raise EmtError(
            "the estimator has weights that are not finite",
            where=folder / FILE,
            remedy="lower its learning_rate",
        )
    return weight, bias


def load_members(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """(weights float32 [seeds, dim], biases float32 [seeds]); None where there is one seed."""
    from safetensors.numpy import load_file

    stored = load_file(folder / FILE)
    if len(stored.get("members", ())) < 2:
        return None
    return stored["members"], stored["member_bias"]
