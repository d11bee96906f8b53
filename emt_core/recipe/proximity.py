"""What a recipe says about proximity: the estimator, other measures, the score (method section 5).

measure.knn: {kind: knn, neighbors: 10}
score.knn: {}                                # fed by the measure of the same name
score.near: {parents: {measure: knn}}        # or by the one that is named
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, model_validator

from emt_core.errors import EmtError
from emt_core.recipe.base import StageConfig

Kind = Literal[
    "random",
    "distance",
    "knn",
    "mlp",
    "perplexity",
    "delta_perplexity",
    "gradient",
    "dsir",
    "clip",
    "imported",
]


class MeasureBase(StageConfig):
    """What all measures have in common."""

    kind: Kind
    """Which measure; each takes settings of its own."""

    seed: int = 0


class SplitMeasure(MeasureBase):
    """A measure that learns from part of the data; with the same seed, of the estimator's split."""

    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of robot episodes (never frames) and of the pool held out for early stopping."""

    test_share: float = Field(default=0.1, gt=0, lt=1)
    """Share held out from everything: the AUROC of the score is measured there."""

    include_text_only: bool = False
    """Train and test on pool rows without an image too: set it where `select` takes such rows."""

    @model_validator(mode="after")
    def _something_is_left_for_training(self) -> SplitMeasure:
        check_shares(self.validation_share, self.test_share)
        return self


class RandomMeasure(MeasureBase):
    kind: Literal["random"]
    """A uniform draw."""


class DistanceMeasure(SplitMeasure):
    kind: Literal["distance"]
    """Average feature distance to the robot frames."""

    robot_rows: int = Field(default=50_000, ge=2)
    """Robot frames compared with at the most, the same bound for each set."""

    normalize: bool = False
    """Scale features to length 1 first: distance by angle (the paper: plain L2)."""


class KnnMeasure(DistanceMeasure):
    kind: Literal["knn"]  # type: ignore[assignment]
    """Distance to the k-th nearest robot frame."""

    neighbors: int = Field(default=10, ge=1)
    """k: the distance to the k-th nearest frame counts (Sun et al. 2022)."""


class MlpMeasure(SplitMeasure):
    kind: Literal["mlp"]
    """A small nonlinear estimator."""

    hidden: int = Field(default=256, ge=1)
    """Width of the one hidden layer."""

    learning_rate: float = Field(default=1e-4, gt=0)
    """AdamW's rate; at the linear estimator's 1e-3 it stopped at the first look (demo)."""

    weight_decay: float = Field(default=0.01, ge=0)

    standardize: bool = True
    """Scale features by the training sample's mean and deviation."""

    batch: int = Field(default=128, ge=2)
    """Half robot, half pool, as for the estimator."""

    stop: Literal["settled", "accuracy"] = "settled"
    """`accuracy`: once stop_accuracy is reached. `settled`: not before min_steps either."""

    stop_accuracy: float = Field(default=0.9, gt=0.5, le=1.0)
    """Validation accuracy, classes balanced, at which training may stop."""

    min_steps: int = Field(default=75, ge=1)
    """settled: train at least this long."""

    steps: int = Field(default=2000, ge=1)
    """Stop here at the latest."""

    eval_every: int = Field(default=5, ge=1)
    """Steps between two looks at the validation split."""


class VlmMeasure(SplitMeasure):
    """A measure that asks a VLM, with robot actions as text."""

    model: str = ""
    """The VLM, a folder or hub name; empty: the one that made the features."""

    revision: str | None = None
    """Hub revision of the VLM."""

    action_bins: int = Field(default=256, ge=2)
    """An action dimension becomes the number of its bin, of equal bins between its 1 % and 99 %
    quantiles (RT-2)."""

    cutoff: int = Field(default=1024, ge=8)
    """Longest sequence, tokens, images included. Text beyond it is cut at the end; image tokens
    never are."""

    max_images: int = Field(default=4, ge=1)
    """At most this many images of a sample are shown to the model."""


class PerplexityMeasure(VlmMeasure):
    kind: Literal["perplexity", "delta_perplexity"]
    """Perplexity under the VLM tuned on robot data with actions as text; or its change by that."""

    steps: int = Field(default=100, ge=1)
    """Steps of fine-tuning on robot samples with actions as text. The paper gives no number."""

    learning_rate: float = Field(default=5e-5, gt=0)
    """AdamW's peak rate of that fine-tuning (cosine; the paper's rate of VLA fine-tuning)."""

    batch: int = Field(default=16, ge=1)
    """Robot samples a step; each robot set is equally likely."""


class GradientMeasure(VlmMeasure):
    kind: Literal["gradient"]
    """Cosine of the sample's gradient with those of robot frames (LESS, Xia et al. 2024)."""

    robot_rows: int = Field(default=512, ge=1)
    """Robot frames whose gradients make the target at the most, the same bound for each set."""

    rank: int = Field(default=8, ge=1)
    """Rank of the LoRA whose gradient is taken; nothing is trained."""

    dims: int = Field(default=8192, ge=2)
    """Numbers that a gradient is projected to (LESS: 8,192)."""


class DsirMeasure(SplitMeasure):
    kind: Literal["dsir"]
    """Importance weights of hashed n-grams."""

    text: Literal["user", "full"] = "full"
    """The user turns of a pool sample, or the whole conversation. Robots have their instruction."""

    ngrams: int = Field(default=2, ge=1, le=4)
    """Longest word n-gram (Xie et al. 2023: 2)."""

    buckets: int = Field(default=10_000, ge=2)
    """Hash buckets (Xie et al. 2023: 10,000)."""

    per_token: bool = False
    """Divide the log weight by the number of n-grams: undivided it falls with a text's length."""


class ClipMeasure(MeasureBase):
    kind: Literal["clip"]
    """Image-text cosine."""

    model: str = Field(min_length=1)
    """As in `embed.model` of an encoder `clip`."""

    max_images: int = Field(default=4, ge=1)
    """At most this many images of a sample are shown to the model."""


class ImportedMeasure(MeasureBase):
    kind: Literal["imported"]
    """A column of yours."""

    path: str = ""
    """A parquet or CSV file with `source:row` and a number in each row, relative to the base."""

    meta: str = ""
    """Instead of a file, a number that the samples carry themselves (a key of their `meta`)."""

    column: str = "score"
    """The file's column with the score."""

    id_column: str = "id"
    """The file's column with the sample's id."""

    lower_is_nearer: bool = False
    """Turn the sign, because in this column small means near."""

    @model_validator(mode="after")
    def _one_place(self) -> ImportedMeasure:
        if bool(self.path) == bool(self.meta):
            raise ValueError(
                "kind 'imported' takes a file (`path`) or a key of the samples' own (`meta`)"
            )
        return self

    def file(self, base: Path) -> Path:
        """The imported file. Raises EmtError where there is none."""
        path = base / Path(self.path).expanduser()
        if not path.is_file():
            raise EmtError(
                "the file with scores does not exist", where=path, remedy="set measure.path"
            )
        return path


MeasureConfig = Annotated[
    RandomMeasure
    | DistanceMeasure
    | KnnMeasure
    | MlpMeasure
    | PerplexityMeasure
    | GradientMeasure
    | DsirMeasure
    | ClipMeasure
    | ImportedMeasure,
    Field(discriminator="kind"),
]
"""The settings of any measure, told apart by `kind`."""

MEASURES: dict[str, type[MeasureBase]] = {
    kind: model
    for model in get_args(get_args(MeasureConfig)[0])
    for kind in get_args(model.model_fields["kind"].annotation)
}
"""Kind -> the model of its settings."""

_ADAPTER: TypeAdapter[MeasureConfig] = TypeAdapter(MeasureConfig)


def measure_config(**settings: Any) -> MeasureConfig:
    """The checked settings of a measure of the given `kind`. Raises pydantic's ValidationError."""
    return _ADAPTER.validate_python(settings)


def check_shares(validation: float, test: float) -> None:
    """Raises ValueError where the held-out shares leave less than a tenth for training."""
    if validation + test >= 0.9:
        raise ValueError("validation_share + test_share leave less than a tenth for training")


class EstimatorConfig(StageConfig):
    kind: Literal["linear"] = "linear"
    """One linear layer on the frozen feature (method section 4)."""

    batch: int = Field(default=128, ge=2)
    """Half robot, half pool (paper: 128, balanced sampling)."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """AdamW's peak rate. The paper does not give one."""

    weight_decay: float = Field(default=0.0, ge=0)

    standardize: bool = True
    """Scale features by the training sample's mean and deviation (then folded into the weights)."""

    seeds: int = Field(default=8, ge=1)
    """Trainings, each on batches of its own; the score is their mean (paper: 1)."""

    stop: Literal["settled", "accuracy"] = "settled"
    """`accuracy`, the paper's plain reading: once stop_accuracy is reached. `settled`: not before
    min_steps either, nor while the seeds still disagree on the ranking."""

    stop_accuracy: float = Field(default=0.9, gt=0.5, le=1.0)
    """Validation accuracy, classes balanced, at which training may stop (paper: 0.90)."""

    min_steps: int = Field(default=75, ge=1)
    """settled: train at least this long (the paper stopped after 75 to 100 steps)."""

    min_agreement: float = Field(default=0.9, gt=0, le=1)
    """settled: how much of the best fifth of the held-out pool two halves of the seeds share."""

    steps: int = Field(default=2000, ge=1)
    """Stop here at the latest."""

    eval_every: int = Field(default=5, ge=1)
    """Steps between two looks at the validation split."""

    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of each robot set's episodes (never frames), and of the pool, held out for early
    stopping."""

    test_share: float = Field(default=0.1, gt=0, lt=1)
    """Share held out from training *and* stopping: AUROC and calibration are measured there."""

    include_text_only: bool = False
    """Train and test on pool rows without an image too: set it where `select` takes such rows."""

    seed: int = 0

    @model_validator(mode="after")
    def _shares(self) -> EstimatorConfig:
        check_shares(self.validation_share, self.test_share)
        return self


class ScoreConfig(StageConfig):
    sweep_sample: int = Field(default=2000, ge=2)
    """Seeded pool subsample for diversity and MMD at every possible cut (Select page)."""

    seed: int = 0
