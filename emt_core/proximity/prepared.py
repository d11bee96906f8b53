"""What training robot against pool takes: the split, feature scaling, batches, held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from emt_core.data.features import Features, take_finite
from emt_core.data.index import Index
from emt_core.proximity.batches import Draws, stratified
from emt_core.proximity.classifier import Examples, History, Training, scaling
from emt_core.proximity.split import (
    NO_VECTOR,
    TEST,
    TEXT_ONLY,
    TRAIN,
    VALIDATION,
    rows_of_part,
    split_of,
)
from emt_core.workspace.progress import Progress

VALIDATION_ROWS = 2048
"""Of each class at the most: accuracy is then known to +-1.3 % (95 %)."""

TEST_ROWS = 10_000
SCALING_ROWS = 4096
PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
Rows = tuple[np.ndarray, list[np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    features: Features
    rows: dict[str, Rows]
    """Part -> (pool rows, rows of each robot set)."""

    mean: np.ndarray
    scale: np.ndarray
    draws: Draws
    validation: Examples
    without_vector: int
    text_only: int
    """Pool rows left out of the training because they have no picture."""

    seed: int

    def test(self) -> Examples:
        return read_examples(self.features, self.rows["test"], TEST_ROWS, self.seed)

    def facts(self) -> dict[str, Any]:
        """For the manifest: how many rows each part has, and how many are in none."""
        by_part = {
            name: {"pool": len(pool), "robot": sum(map(len, robots))}
            for name, (pool, robots) in self.rows.items()
        }
        return {
            "rows_by_part": by_part,
            "rows_without_vector": self.without_vector,
            "rows_text_only": self.text_only,
        }


def prepare(index: Index, features: Features, config: Training) -> Prepared:
    """Split and read. Raises EmtError where a part would be empty (see split_rows)."""
    part = split_of(config, index, features.ok())
    rows = {name: rows_of_part(index, part, value) for name, value in PARTS.items()}
    training = read_examples(features, rows["train"], SCALING_ROWS, config.seed)
    mean, scale = scaling(training.x, training.weights, standardize=config.standardize)
    return Prepared(
        features=features,
        rows=rows,
        mean=mean,
        scale=scale,
        draws=Draws(features, *rows["train"], config.seed),
        validation=read_examples(features, rows["validation"], VALIDATION_ROWS, config.seed),
        without_vector=int((part == NO_VECTOR).sum()),
        text_only=int((part == TEXT_ONLY).sum()),
        seed=config.seed,
    )


def read_examples(features: Features, rows: Rows, most: int, seed: int) -> Examples:
    """At most `most` pool rows and as many robot rows, the sets in equal parts, in memory."""
    numbers, stratum = stratified(*rows, most, seed)
    x = take_finite(features, numbers, np.float64)
    return Examples(x=x, robot=stratum > 0, stratum=stratum, rows=numbers)


@contextmanager
def training_progress(progress: Progress, config: Training) -> Iterator[Callable[[History], None]]:
    """Gives a callback that shows loss and validation accuracy after each step.

    At the end it says where the accuracy asked for was never reached, and where it was reached at
    once.
    """
    measured: list[float] = []
    with progress.track("training", config.steps, unit="steps") as tracker:

        def report(history: History) -> None:
            accuracy = history.val_accuracy[-1]
            if not np.isnan(accuracy):
                measured.append(accuracy)
                tracker.doing = f"training, loss {history.loss[-1]:.3f}, validation {accuracy:.1%}"
            tracker.advance()

        yield report
    if max(measured) < config.stop_accuracy:
        progress.say(
            f"validation accuracy never reached {config.stop_accuracy:.0%} (best "
            f"{max(measured):.1%}): robot data and pool overlap in these features"
        )
    if measured[0] >= config.stop_accuracy:
        first = min(config.eval_every, config.steps)
        progress.say(
            f"separable at the first look ({measured[0]:.1%} after {first} steps): "
            "this ranks by direction only"
        )
