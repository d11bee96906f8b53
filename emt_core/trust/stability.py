"""Stability: would another seed, another stop, one robot set less, or other negatives have chosen the same samples?

The linear estimator is trained again and again (a tenth of a second each); rankings are compared with its own on a
seeded subsample of the pool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from emt_core.index import Index
from emt_core.metrics.rank_agreement import overlap_at, spearman
from emt_core.proximity.learned import LinearEstimator, train
from emt_core.proximity.prepared import Prepared, prepare
from emt_core.stage_config import EstimatorConfig
from emt_core.store import Features
from emt_core.trust.config import TrustConfig
from emt_core.trust.number import numbered


def fit(data: Prepared, config: EstimatorConfig, steps: int | None = None) -> LinearEstimator:
    """The estimator as its stage trains it; steps: exactly so many, whatever the accuracy."""
    if steps is not None:
        config = config.model_copy(update={"max_steps": steps, "stop_accuracy": 1.01})
    batches = data.draws.batches(config.batch_size, config.max_steps)
    return train(config, batches, data.validation, mean=data.mean, scale=data.scale)


def stability(
    index: Index,
    features: Features,
    rows: np.ndarray,
    logit: np.ndarray,
    estimator: EstimatorConfig,
    config: TrustConfig,
    *,
    on_fit: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """(section, table: kind name spearman overlap). rows: index rows of the subsample; logit: their scores."""
    x = features.take(rows)
    k = max(1, round(config.top_share * len(rows)))
    table: dict[str, list[Any]] = {"kind": [], "name": [], "spearman": [], "overlap": []}
    data = prepare(index, features, estimator)

    def compare(kind: str, name: str, other: np.ndarray, against: np.ndarray = logit, size: int = k) -> None:
        table["kind"].append(kind)
        table["name"].append(name)
        table["spearman"].append(spearman(against, other))
        table["overlap"].append(overlap_at(against, other, size))
        on_fit()

    for seed in range(config.seeds):
        again = estimator.model_copy(update={"seed": estimator.seed + seed + 1})
        compare("seed", str(again.seed), fit(prepare(index, features, again), again).logits(x))
    for steps in config.stop_points:
        compare("steps", str(steps), fit(data, estimator, steps).logits(x))
    names, robots = [s.name for s in index.of_role("robot")], list(data.draws.robots)
    if len(robots) > 1:
        for place, name in enumerate(names):
            rest = replace(data, draws=replace(data.draws, robots=robots[:place] + robots[place + 1 :]))
            compare("without robot set", name, fit(rest, estimator).logits(x))
    out = out_of_fold(data, estimator, rows, x, config.folds, on_fit)
    negatives = np.isin(rows, data.draws.pool)
    compare(
        "out of fold",
        f"{config.folds} folds",
        out[negatives],
        logit[negatives],
        max(1, round(config.top_share * int(negatives.sum()))),
    )
    return _section(table), table


def out_of_fold(
    data: Prepared,
    estimator: EstimatorConfig,
    rows: np.ndarray,
    x: np.ndarray,
    folds: int,
    on_fit: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """float32 [n]: each row's logit from an estimator that did not have it as a negative (fold: row mod folds)."""
    found = np.empty(len(rows), np.float32)
    pool = data.draws.pool
    for fold in range(folds):
        rest = replace(data, draws=replace(data.draws, pool=pool[pool % folds != fold]))
        mine = rows % folds == fold
        found[mine] = fit(rest, estimator).logits(x[mine])
        on_fit()
    return found


ADVICE = {
    "seed": "Lowest rank correlation with the same estimator trained on another seed; above 0.95 the ranking does "
    "not hang on "
    "chance, and below 0.8 train longer or add robot episodes.",
    "steps": "Lowest rank correlation with the ranking at other stops; above 0.9 the early stop hardly matters, and "
    "below 0.7 "
    "compare selections of several stops before you commit.",
    "without robot set": "Lowest rank correlation when one robot set is left out; above 0.9 no set decides alone, "
    "and below "
    "0.7 the selection serves that set: say so, or give it a selection of its own.",
    "out of fold": "Rank correlation with scores of samples that never served as negatives; above 0.95 having been "
    "a negative "
    "costs a sample nothing, and below 0.85 select by out-of-fold scores.",
}
BOUNDS = {"seed": (0.95, 0.8), "steps": (0.9, 0.7), "without robot set": (0.9, 0.7), "out of fold": (0.95, 0.85)}
LABEL = {
    "seed": "Another seed",
    "steps": "Another stop",
    "without robot set": "One robot set less",
    "out of fold": "Never a negative",
}


def _section(table: dict[str, list[Any]]) -> dict[str, Any]:
    numbers = []
    for kind, (good, bad) in BOUNDS.items():
        found = [value for name, value in zip(table["kind"], table["spearman"], strict=True) if name == kind]
        if found:
            numbers.append(numbered(LABEL[kind], float(np.min(found)), ADVICE[kind], good=good, bad=bad))
    return {
        "title": "Stability",
        "question": "Would another training have chosen the same samples?",
        "numbers": numbers,
    }
