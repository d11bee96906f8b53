"""What every proximity measure is given and gives: see the package's docstring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.proximity.split import TRAIN, rows_of_part, split_of
from emt_core.recipe.base import Runtime
from emt_core.recipe.proximity import MeasureConfig, SplitMeasure
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The data that a measure is fitted to and scores, and where to run."""

    index: Index
    features: Features
    embed: Artifact
    """The artifact of `features`: a measure that runs a model takes the encoder's own where its config names none."""

    base: Path
    """Folder that relative paths of the configuration start from."""

    runtime: Runtime
    progress: Progress

    twin: Artifact | None = None
    """What the measure's twin left in this stage (see twin.py): work that need not be done again."""

    no_score: Callable[[int, str], None] = lambda row, reason: None
    """Told the index row and the reason where a measure that runs a model has no score for a row."""


class Measure(Protocol):
    LOGIT: bool

    def fit(self, config: MeasureConfig, inputs: Inputs, out: Path) -> dict[str, Any]: ...

    def scores(
        self, config: MeasureConfig, inputs: Inputs, fitted: Path, start: int
    ) -> Iterator[tuple[int, np.ndarray]]: ...


def training_rows(config: SplitMeasure, inputs: Inputs) -> tuple[np.ndarray, list[np.ndarray]]:
    """(int64 pool rows, int64 rows of each robot set) of the training part: the same split as the estimator's.

    Raises EmtError where a robot set has fewer than three episodes, or there is no pool or no robot data.
    """
    return rows_of_part(inputs.index, split_of(config, inputs.index, inputs.features.ok()), TRAIN)
