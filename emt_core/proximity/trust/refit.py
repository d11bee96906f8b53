"""The measure fitted again as it fits itself: on other rows, other features or with another seed.

A measure is given an index or a feature store that shows it less than there is. All that it takes
from its data (the split, the early stop, the scaling, the frames it keeps) then comes from what is
shown, and no measure is written twice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np

from emt_core.data.features import Features
from emt_core.data.index import Index, SourceRange
from emt_core.proximity.base import AnyConfig, Inputs, OnFeatures, OnWords, ScoreOf, measure_of
from emt_core.recipe.proximity import DsirMeasure
from emt_core.workspace.progress import Progress

IN_STEPS = ("linear", "mlp")
ON_FEATURES = (*IN_STEPS, "distance", "knn")
"""Kinds whose score is a function of the feature alone, learned in seconds."""


class FewerSets(Index):
    """The index without some robot sets: a measure fitted on it never meets them."""

    def __init__(self, index: Index, left_out: Collection[str]) -> None:
        super().__init__(index.artifact)
        self.left_out = left_out

    def of_role(self, role: str) -> list[SourceRange]:
        return [source for source in super().of_role(role) if source.name not in self.left_out]


@dataclass
class Shown(Features):
    """A feature store of which some rows count as not there. shown: bool [rows]."""

    shown: np.ndarray

    def ok(self, *, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.shown[start:stop]


@dataclass
class InMemory(Shown):
    """A feature store with other vectors for some rows, held in memory.

    of_rows: int64 [n], rising; x: float32 [n, dim], theirs; shown may only name rows of `of_rows`.
    """

    of_rows: np.ndarray
    x: np.ndarray

    @property
    def dim(self) -> int:
        return self.x.shape[1]

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        return self.x[np.searchsorted(self.of_rows, rows)]


def fit_again(config: AnyConfig, inputs: Inputs) -> ScoreOf:
    """The score that a measure on features (ON_FEATURES) learns from these inputs.

    Raises EmtError where they are too few.
    """
    with TemporaryDirectory(prefix="emt-trust-") as folder:
        measure_of(config.kind).fit(config, _quiet(inputs), Path(folder))
        return as_fitted(config, Path(folder), inputs.features.dim)


def as_fitted(config: AnyConfig, folder: Path, dim: int) -> ScoreOf:
    """The score that a measure on features (ON_FEATURES) has left in `folder`."""
    return cast(OnFeatures, measure_of(config.kind)).score_of(config, folder, dim)


def scored_again(config: AnyConfig, inputs: Inputs, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
    """float32 [n]: scores of these index rows by the measure fitted again on these inputs.

    x: float32 [n, dim], the rows' features; dsir reads the rows' texts instead.
    """
    if not isinstance(config, DsirMeasure):
        return fit_again(config, inputs)(x)
    dsir = cast(OnWords, measure_of(config.kind))
    with TemporaryDirectory(prefix="emt-trust-") as folder:
        dsir.fit(config, _quiet(inputs), Path(folder))
        return dsir.scores_of(config, inputs.index, rows, Path(folder))


def _quiet(inputs: Inputs) -> Inputs:
    """Without progress of its own: the stage shows how many of its dozens of fits are done."""
    return replace(inputs, progress=Progress(label="trust", quiet=True))
