"""An estimator's held-out metrics in sentences, and which estimators can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from emt_core.workspace.artifact import Artifact
from emt_core.workspace.lineage import labels_of

Level = Literal["good", "look", "warn"]
NEEDED = ("curves.json", "heldout.parquet")
SEPARABLE = 0.995
"""AUROC from which the classes hardly overlap."""

GOOD = 0.9
"""AUROC from which a ranking is reliable."""

WEAK = 0.7
"""AUROC below which a ranking is little better than chance."""

GRADED = 0.5
"""Scores count as saturated below this share of held-out pool samples between 1 % and 99 %."""

OFF = 0.1
"""Expected calibration error above which probabilities are not reliable."""

UNEVEN = 0.05
"""Spread of AUROC over the robot sets that is worth a look."""


AGREED = 0.9
"""Share of the best fifth from which two halves of the seeds count as agreed."""


@dataclass(frozen=True)
class Remark:
    level: Level
    text: str


def comparable(done: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Label -> finished estimators and other measures with held-out curves, oldest first."""
    labels = [*labels_of(done, "estimator"), *labels_of(done, "measure")]
    return {
        label: done[label]
        for label in labels
        if all((done[label].data / name).exists() for name in NEEDED)
    }


def confusion(label: np.ndarray, logit: np.ndarray) -> np.ndarray:
    """int64 [2, 2] at threshold 0: rows robot, pool; columns predicted robot, predicted pool.

    label: 1 robot, 0 pool. A logit of exactly 0 is predicted pool, as in the stage's accuracy.
    """
    robot = np.asarray(label, bool)
    predicted = np.asarray(logit) > 0
    return np.array(
        [[np.sum(true & p) for p in (predicted, ~predicted)] for true in (robot, ~robot)], np.int64
    )


def remarks(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> list[Remark]:
    """Sentences about the metrics that are there, the most important first."""
    found = []
    auroc = metrics.get("auroc")
    graded = metrics.get("graded_share")
    error = metrics.get("calibration_error")
    by_robot = metrics.get("auroc_by_robot") or {}
    if auroc is not None:
        found.append(_ranking(float(auroc), metrics.get("steps")))
    if graded is not None:
        found.append(_saturation(graded))
    if trivial := trivial_fit(metrics, config):
        found.append(Remark("warn", trivial))
    if metrics.get("stopped") in ("steps", "loss"):
        found.append(Remark("look", _unfinished(metrics, config.get("stop_accuracy", 0.9))))
    if metrics.get("seed_agreement") is not None:
        found.append(_seeds(metrics["seed_agreement"], metrics["seeds"]))
    if len(by_robot) > 1 and max(by_robot.values()) - min(by_robot.values()) > UNEVEN:
        weakest = min(by_robot, key=by_robot.__getitem__)
        value = f"{weakest} is separated least from the pool ({by_robot[weakest]:.3f})"
        found.append(Remark("look", f"Robot sets differ: {value}."))
    if error is not None and error > OFF:
        text = (
            f"Probabilities are off by {100 * error:.0f} points on average: use the score for "
            "ranking only. Early stopping causes this; the ranking is not affected."
        )
        found.append(Remark("look", text))
    return found


def trivial_fit(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """A sentence where the first look at the validation part reached the target; else empty."""
    first = metrics.get("first_look_accuracy")
    if first is None or first < config.get("stop_accuracy", 0.9):
        return ""
    steps = min(config.get("eval_every", 5), metrics.get("steps", 5))
    return (
        f"Separable at the first look ({first:.1%} after {steps} steps): this "
        "ranks by direction only, so neither accuracy nor AUROC says how good the order of the "
        "pool is."
    )


def _unfinished(metrics: Mapping[str, Any], target: float) -> str:
    if metrics.get("val_accuracy", 0) >= target:
        return (
            f"Training ran all {metrics['steps']:,} steps before the ranking settled: allow more "
            "`steps`."
        )
    ended = "ran all" if metrics["stopped"] == "steps" else "ended after"
    kept = metrics.get("kept_step", metrics["steps"])
    best = f" The weights are those of step {kept:,}, its lowest held-out loss."
    return (
        f"Training {ended} {metrics['steps']:,} steps without reaching the target accuracy of "
        f"{target:.0%}: the classes overlap in this feature space."
        + (best if kept != metrics["steps"] else "")
    )


def _seeds(agreement: float, seeds: int) -> Remark:
    text = (
        f"Two halves of the {seeds} seeds share {agreement:.0%} of the best fifth of the held-out "
        "pool (chance: 20 %)."
    )
    return Remark("good" if agreement >= AGREED else "look", text)


def _saturation(graded: float) -> Remark:
    share = f"{graded:.0%} of held-out pool samples score between 1 % and 99 %"
    if graded >= GRADED:
        return Remark("good", f"Scores are graded: {share}.")
    return Remark(
        "warn",
        f"Saturated: only {share}. The ranking at the ends is mostly noise; stop earlier (a lower "
        "stop_accuracy) or look at Trust.",
    )


def _ranking(auroc: float, steps: int | None) -> Remark:
    measured = f"AUROC {auroc:.3f}" + (f" after {steps:,} steps" if steps else "")
    if auroc >= SEPARABLE:
        return Remark(
            "warn",
            f"Almost separable: {measured}. Something identifies robot data at a glance, which may "
            "be style and not content; see Trust.",
        )
    if auroc >= GOOD:
        return Remark("good", f"Robot data and pool are separated well but overlap: {measured}.")
    if auroc >= WEAK:
        text = f"A weak ranking: {measured}. Many pool samples look like robot data."
        return Remark("look", text)
    return Remark("warn", f"Hardly better than chance: {measured}. Do not select by this score.")
