"""The score learned again as its own measure learns it: from other rows, on other features, with another seed.

A measure is given an index or a feature store that shows it less than there is. All that it takes from its data (the
split, the early stop, the scaling, the frames it keeps) then comes from what is shown, and no measure is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from emt_core.data.features import Features
from emt_core.data.index import Index, SourceRange
from emt_core.proximity import measure_of
from emt_core.proximity.base import Inputs
from emt_core.proximity.measures import dsir
from emt_core.proximity.measures.linear import train
from emt_core.proximity.prepared import prepare
from emt_core.recipe.proximity import (
    DistanceMeasure,
    DsirMeasure,
    EstimatorConfig,
    KnnMeasure,
    MeasureConfig,
)
from emt_core.workspace.progress import Progress

Measure = EstimatorConfig | MeasureConfig
ScoreOf = Callable[[np.ndarray], np.ndarray]
"""float32 [n, dim] -> float32 [n]; higher is nearer."""

IN_STEPS = ("linear", "mlp")
ON_FEATURES = (*IN_STEPS, "distance", "knn")
"""Kinds whose score is a function of the feature alone, learned in seconds."""


class FewerSets(Index):
    """The index without some robot sets: a measure fitted on it has not met them in any role."""

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
    """Other vectors for some rows. of_rows: int64 [n], rising; x: float32 [n, dim]; shown: some of them."""

    of_rows: np.ndarray
    x: np.ndarray

    @property
    def dim(self) -> int:
        return self.x.shape[1]

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        return self.x[np.searchsorted(self.of_rows, rows)]


def fit_again(measure: Measure, inputs: Inputs) -> ScoreOf:
    """What the measure (one of ON_FEATURES) learns from these inputs. Raises EmtError where they are too few."""
    if isinstance(measure, EstimatorConfig):
        data = prepare(inputs.index, inputs.features, measure)
        batches = data.draws.batches(measure.batch, measure.steps)
        return train(measure, batches, data.validation, mean=data.mean, scale=data.scale).logits
    with TemporaryDirectory(prefix="emt-trust-") as folder:
        measure_of(measure.kind).fit(measure, _quiet(inputs), Path(folder))
        return as_fitted(measure, Path(folder), inputs.features.dim)


def as_fitted(measure: Measure, folder: Path, dim: int) -> ScoreOf:
    """The score as a function of features, from what its estimator or measure left in `folder` (ON_FEATURES)."""
    from safetensors.numpy import load_file

    if measure.kind == "linear":
        stored = load_file(folder / "weights.safetensors")
        weight, bias = stored["weight"].astype(np.float64), float(stored["bias"][0])
        return lambda x: (x.astype(np.float64) @ weight + bias).astype(np.float32)
    if measure.kind == "mlp":
        from emt_core.proximity.measures import mlp

        network = load_file(folder / mlp.FILE)
        return lambda x: mlp.network_logits(x, network)
    from emt_core.proximity.measures.bank import Bank
    from emt_core.proximity.measures.distance import mean_distance
    from emt_core.proximity.measures.knn import kth_distance

    assert isinstance(measure, DistanceMeasure)
    bank = Bank.read(folder, dim=dim, normalize=measure.normalize)
    if isinstance(measure, KnnMeasure):
        k = measure.neighbors
        return lambda x: -kth_distance(x, bank, k)
    return lambda x: -mean_distance(x, bank)


def scored_again(measure: Measure, inputs: Inputs, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
    """float32 [n]: scores of these rows (x: their float32 features) by the measure fitted again; dsir reads texts."""
    if not isinstance(measure, DsirMeasure):
        return fit_again(measure, inputs)(x)
    with TemporaryDirectory(prefix="emt-trust-") as folder:
        dsir.fit(measure, _quiet(inputs), Path(folder))
        return dsir.scores_of(measure, inputs.index, rows, Path(folder))


def _quiet(inputs: Inputs) -> Inputs:
    """Fits by the dozen: the stage shows how many are done, not what each has to say."""
    return replace(inputs, progress=Progress(label="trust", quiet=True))
