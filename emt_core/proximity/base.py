"""What every proximity measure is given, and what it gives back.

A measure is a module with these names (the protocol `Measure`); `measure_of(kind)` imports it:

    LOGIT: bool                        whether the score is the log odds of robot against pool
    fit(config, inputs, out) -> dict   learns from robot and pool data, writes into `out`;
                                       returns figures for the manifest
    scores(config, inputs, fitted, start) -> Iterator[(first row, float32 scores)]
                                       rows [start, end) of the index, in order;
                                       NaN where a row has no score. [n], or [n, 2] where
                                       the measure knows each score's spread over seeds

One that runs a model over images and text has instead of `scores` (protocol `OnModel`)

    scorer(config, inputs, fitted) -> scores_of(start, stop)
                                       the model loaded; each call gives rows [start, stop) as above

Every score is float32, and higher means nearer to the robot data. A row's score depends on the row
and on what was fitted, never on how rows are cut into batches or commits: to the last bit for
measures on features and words; to rounding for those that run a model (perplexities, CLIP), whose
padding follows the batch size. A resumed run gives the same bits.

The paper's own estimator (method section 4) is the measure `linear`, run by the stage `estimator`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.models.device import Precision
from emt_core.recipe.base import Runtime
from emt_core.recipe.proximity import EstimatorConfig, MeasureConfig
from emt_core.run.stage import Context
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.progress import Progress

AnyConfig = EstimatorConfig | MeasureConfig
ScoresOf = Callable[[int, int], Iterator[tuple[int, np.ndarray]]]
"""(start, stop) -> (first row, float32 scores) of these index rows, in order."""

ScoreOf = Callable[[np.ndarray], np.ndarray]
"""float32 [n, dim] -> float32 [n]; higher is nearer."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The data that a measure is fitted to and scores, and where to run."""

    index: Index
    features: Features
    embed: Artifact
    """The artifact of `features`: a measure that runs a model and names none takes the
    encoder's."""

    base: Path
    """Folder that relative paths of the configuration start from."""

    runtime: Runtime
    progress: Progress

    twin: Artifact | None = None
    """What the measure's twin left in this stage (perplexity/twin.py): work already done."""

    precision: Precision = "auto"
    """Of a measure that runs a model; the stage `score` has settled it."""

    no_score: Callable[[int, str], None] = lambda row, reason: None
    """Called with the index row and the reason where a model has no score for a row."""

    @classmethod
    def of(cls, context: Context) -> Inputs:
        """The inputs of a stage that has `sources` and `embed` as parents."""
        embed = context.parents["embed"]
        return cls(
            index=Index(context.parents["sources"]),
            features=Features.at(embed.data / "features.lance"),
            embed=embed,
            base=context.base,
            runtime=context.runtime,
            progress=context.progress,
        )


class Measure(Protocol):
    LOGIT: bool

    def fit(self, config: AnyConfig, inputs: Inputs, out: Path) -> dict[str, Any]: ...

    def scores(
        self, config: AnyConfig, inputs: Inputs, fitted: Path, start: int
    ) -> Iterator[tuple[int, np.ndarray]]: ...


class OnModel(Protocol):
    """A measure that runs a model on every row (perplexities, CLIP)."""

    def scorer(self, config: AnyConfig, inputs: Inputs, fitted: Path) -> ScoresOf:
        """The model loaded; each call scores a range of rows."""
        ...


class OnFeatures(Measure, Protocol):
    """A measure whose score is a function of the feature alone (linear, mlp, distance, knn)."""

    def score_of(self, config: AnyConfig, fitted: Path, dim: int) -> ScoreOf:
        """That function. Raises EmtError where it was fitted on features of another width."""
        ...


class OnWords(Measure, Protocol):
    """A measure whose score is a function of the conversation alone (dsir)."""

    def scores_of(
        self, config: AnyConfig, index: Index, rows: np.ndarray, fitted: Path
    ) -> np.ndarray:
        """float32 [n]: what `scores` gives these index rows, in any order."""
        ...


def measure_of(kind: str) -> Measure:
    """The module of a measure. Importing it loads no torch."""
    if kind in ("perplexity", "delta_perplexity"):
        module = "emt_core.proximity.perplexity.perplexity"
    else:
        module = f"emt_core.proximity.measures.{kind}"
    return cast("Measure", importlib.import_module(module))
