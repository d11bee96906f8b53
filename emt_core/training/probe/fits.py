"""Probes on features of frames: what each held-out episode got wrong.

Every seen episode is predicted by a probe that learned from the other folds; an unseen one by a
probe that learned from all seen episodes. Features and numbers are standardized by what the probe
learns from.

linear   ridge regression, logistic regression; their strength is chosen by held-out episodes
mlp      one network of scikit-learn for each seed
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

HEADS = ("linear", "mlp")
ALPHAS = tuple(10.0**power for power in range(-1, 6))
"""Ridge's strengths: features are standardized, so they are shares of the frames' number."""

INVERSE_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Logistic regression's C."""

INNER_FOLDS = 3
STEPS = 1_000
"""Of an MLP, about; its batches have 64 frames. It ends earlier where its loss stands still."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing that is asked of N frames."""

    features: np.ndarray
    """float32 [N, H]."""

    target: np.ndarray
    """float32 [N, D] numbers, or int64 [N] classes."""

    episode: np.ndarray
    """int64 [N]."""

    seen: np.ndarray
    """bool [N]: frames of episodes that may be learned from."""

    @property
    def classes(self) -> bool:
        return self.target.ndim == 1


@dataclass(frozen=True, kw_only=True)
class Errors:
    """What one training of a probe got wrong, by frame."""

    error: np.ndarray
    """float64 [N]: squared, as the mean over the standardized dimensions; 1 for a wrong class."""

    base: np.ndarray
    """float64 [N]: the error of the mean; 1 for classes."""


def folds_of(episode: np.ndarray, task: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """int64 [E]: fold of each of the seen episodes, each task spread over all folds.

    episode: their numbers. task: of each.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(episode))
    names = np.asarray(task)[order]
    by_task = order[np.argsort(names, kind="stable")]
    fold = np.empty(len(episode), np.int64)
    fold[by_task] = np.arange(len(episode)) % folds
    return fold


def errors_of(
    asked: Task,
    head: str,
    fold: np.ndarray,
    *,
    hidden: tuple[int, ...],
    seed: int,
    advance: Callable[[], object] = lambda: None,
) -> Errors:
    """fold: int64 [N], -1 for frames that nothing learns from. seed: of an MLP's weights."""
    error = np.full(len(fold), np.nan)
    base = np.full(len(fold), np.nan)
    for learn, test in _splits(asked.seen, fold):
        if test.any():
            error[test], base[test] = _tested(asked, head, learn, test, hidden, seed)
        advance()
    return Errors(error=error, base=base)


def _splits(seen: np.ndarray, fold: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(frames to learn from, frames to test), bool [N] each."""
    for number in range(fold.max() + 1):
        yield seen & (fold != number), seen & (fold == number)
    yield seen, ~seen


def _tested(
    asked: Task,
    head: str,
    learn: np.ndarray,
    test: np.ndarray,
    hidden: tuple[int, ...],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    inputs, _ = _standard(asked.features, learn)
    frames = int(learn.sum())
    if asked.classes:
        model: Any = _classifier(head, hidden, seed, frames)
        _fit(model, inputs[learn], asked.target[learn], asked.episode[learn])
        wrong = model.predict(inputs[test]) != asked.target[test]
        return wrong.astype(float), np.ones(int(test.sum()))
    target, moves = _standard(asked.target, learn)
    target = target[:, moves]
    if not target.shape[1]:
        return np.zeros(int(test.sum())), np.zeros(int(test.sum()))
    model = _regressor(head, hidden, seed, frames)
    _fit(model, inputs[learn], target[learn], asked.episode[learn])
    away = target[test] - model.predict(inputs[test]).reshape(-1, target.shape[1])
    return (away**2).mean(1), (target[test] ** 2).mean(1)


def _standard(values: np.ndarray, learn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values in standard deviations of the learned frames, which dimensions vary)."""
    values = values.astype(np.float64)
    mean = values[learn].mean(0)
    deviation = values[learn].std(0)
    varies = deviation > 1e-6 * (1 + np.abs(mean))
    return (values - mean) / np.where(varies, deviation, 1.0), varies


def _regressor(head: str, hidden: tuple[int, ...], seed: int, frames: int) -> Any:
    from sklearn.linear_model import Ridge
    from sklearn.neural_network import MLPRegressor

    if head == "linear":
        return _Chosen(Ridge(), "alpha", ALPHAS)
    return MLPRegressor(hidden_layer_sizes=hidden, random_state=seed, **_mlp(frames))


def _classifier(head: str, hidden: tuple[int, ...], seed: int, frames: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    if head == "linear":
        return _Chosen(LogisticRegression(max_iter=200), "C", INVERSE_STRENGTHS)
    return MLPClassifier(hidden_layer_sizes=hidden, random_state=seed, **_mlp(frames))


def _mlp(frames: int) -> dict[str, Any]:
    batch = min(64, frames)
    rounds = math.ceil(STEPS / math.ceil(frames / batch))
    return {"alpha": 1e-2, "batch_size": batch, "max_iter": rounds, "learning_rate_init": 3e-3}


@dataclass
class _Chosen:
    """A linear model whose strength is chosen by held-out episodes."""

    model: Any
    setting: str
    values: tuple[float, ...]

    def fit(self, inputs: np.ndarray, target: np.ndarray, episode: np.ndarray) -> None:
        from sklearn.model_selection import GridSearchCV, GroupKFold

        inner = GroupKFold(min(INNER_FOLDS, len(np.unique(episode))))
        search = GridSearchCV(self.model, {self.setting: list(self.values)}, cv=inner)
        self.model = search.fit(inputs, target, groups=episode).best_estimator_

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        return self.model.predict(inputs)


def _fit(model: Any, inputs: np.ndarray, target: np.ndarray, episode: np.ndarray) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # an MLP stops after its rounds, which is what it is told to do
        warnings.simplefilter("ignore", ConvergenceWarning)
        if isinstance(model, _Chosen):
            model.fit(inputs, target, episode)
        else:
            model.fit(inputs, target.ravel() if target.ndim > 1 == target.shape[1] else target)
