"""What an estimator's held-out figures say in plain words, and which estimators can be laid side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from emt_core.workspace.artifact import Artifact
from emt_core.workspace.lineage import labels_of

Level = Literal["good", "look", "warn"]
NEEDED = ("curves.json", "heldout.parquet")
SEPARABLE, GOOD, WEAK = 0.995, 0.9, 0.7
"""AUROC: from here on two classes hardly overlap; a ranking to rely on; below, little better than chance."""

GRADED = 0.5
"""Share of held-out pool samples between 1 % and 99 %, under which scores count as saturated."""

OFF = 0.1
"""Expected calibration error above which the probabilities are not to be read as such."""

UNEVEN = 0.05
"""Spread of AUROC over the robot sets that is worth a look."""


@dataclass(frozen=True)
class Remark:
    level: Level
    text: str


@dataclass(frozen=True)
class Confusion:
    """Held-out rows at logit 0 (even odds): counts, and the share of each class that is told right."""

    robot_right: int
    robot_wrong: int
    pool_right: int
    pool_wrong: int

    @property
    def counts(self) -> np.ndarray:
        """int64 [2, 2]: rows robot, pool; columns said robot, said pool."""
        return np.array(
            [[self.robot_right, self.robot_wrong], [self.pool_wrong, self.pool_right]], np.int64
        )


def comparable(done: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Label -> finished estimators, and other fitted measures that kept held-out figures, oldest first."""
    labels = [*labels_of(done, "estimator"), *labels_of(done, "measure")]
    return {
        label: done[label]
        for label in labels
        if all((done[label].data / name).exists() for name in NEEDED)
    }


def confusion(label: np.ndarray, logit: np.ndarray) -> Confusion:
    """label: 1 robot, 0 pool. A logit of exactly 0 is said to be pool, as the stage counts its accuracy."""
    robot, said = np.asarray(label, bool), np.asarray(logit) > 0
    counted = [
        int(np.sum(mask)) for mask in (robot & said, robot & ~said, ~robot & ~said, ~robot & said)
    ]
    return Confusion(*counted)


def remarks(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> list[Remark]:
    """Plain sentences, the most important first. Only about figures that are there."""
    found = []
    auroc, steps = metrics.get("auroc"), metrics.get("steps")
    graded, error = metrics.get("graded_share"), metrics.get("calibration_error")
    if auroc is not None:
        found.append(_ranking(float(auroc), steps))
    if graded is not None:
        if graded < GRADED:
            found.append(
                Remark(
                    "warn",
                    f"Saturated: only {graded:.0%} of held-out pool samples score between 1 % and 99 %. Order at the "
                    "ends is then little more than noise; stop earlier (a lower stop_accuracy) or look at Trust.",
                )
            )
        else:
            found.append(
                Remark(
                    "good",
                    f"Scores are graded: {graded:.0%} of held-out pool samples lie between 1 % and 99 %.",
                )
            )
    if metrics.get("stopped") == "steps":
        found.append(
            Remark(
                "look",
                f"Training ran to its last step ({steps:,}) without reaching the target accuracy of "
                f"{config.get('stop_accuracy', 0.9):.0%}: the classes overlap in this feature space.",
            )
        )
    by_robot = metrics.get("auroc_by_robot") or {}
    if len(by_robot) > 1 and max(by_robot.values()) - min(by_robot.values()) > UNEVEN:
        weakest = min(by_robot, key=by_robot.__getitem__)
        found.append(
            Remark(
                "look",
                f"Robot sets differ: {weakest} is told from the pool least well ({by_robot[weakest]:.3f}).",
            )
        )
    if error is not None and error > OFF:
        found.append(
            Remark(
                "look",
                f"Probabilities are off by {100 * error:.0f} points on average: rank by the score, do not read it as a "
                "chance. Early stopping does this; the order is not affected.",
            )
        )
    return found


def _ranking(auroc: float, steps: int | None) -> Remark:
    after = f" after {steps:,} steps" if steps else ""
    if auroc >= SEPARABLE:
        return Remark(
            "warn",
            f"Almost separable: AUROC {auroc:.3f}{after}. Something tells robot data from the pool at a glance, which "
            "may be style and not content; see Trust.",
        )
    if auroc >= GOOD:
        return Remark(
            "good",
            f"Robot frames and pool are told apart well and still overlap: AUROC {auroc:.3f}{after}.",
        )
    if auroc >= WEAK:
        return Remark(
            "look",
            f"A weak ranking: AUROC {auroc:.3f}{after}. Many pool samples look like robot data.",
        )
    return Remark(
        "warn", f"Hardly better than chance: AUROC {auroc:.3f}{after}. Do not select by this score."
    )
