"""What a recipe says about a proximity measure other than the learned linear estimator (method section 5, and beyond).

measure.knn: {kind: knn, neighbours: 10}
score.knn: {}                                # fed by the measure of the same name
score.near: {parents: {measure: knn}}        # or by the one that is named
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from emt_core.errors import EmtError
from emt_core.recipe.base import StageConfig

Kind = Literal[
    "random", "distance", "knn", "mlp", "perplexity", "delta_perplexity", "dsir", "clip", "imported"
]

SPLIT = ("validation_share", "test_share")
BANK = ("robot_rows", "normalise", *SPLIT)
TRAINING = (
    "hidden",
    "learning_rate",
    "weight_decay",
    "standardize",
    "batch_size",
    "stop_accuracy",
    "max_steps",
    "eval_every",
    *SPLIT,
)
TUNING = (
    "model",
    "revision",
    "tune_steps",
    "tune_rate",
    "tune_batch",
    "action_bins",
    "max_text_tokens",
    "max_images",
    *SPLIT,
)
USED: dict[str, tuple[str, ...]] = {
    "random": (),
    "distance": BANK,
    "knn": (*BANK, "neighbours"),
    "mlp": TRAINING,
    "perplexity": TUNING,
    "delta_perplexity": TUNING,
    "dsir": ("text", "ngrams", "buckets", "per_token", *SPLIT),
    "clip": ("model", "max_images"),
    "imported": ("path", "meta", "column", "id_column", "lower_is_nearer"),
}
"""Fields that each kind of measure looks at, beside `kind` and `seed`. All others are refused and enter no key."""


class MeasureConfig(StageConfig):
    kind: Kind
    """`random`: a uniform draw. `distance`: average feature distance. `knn`: distance to the k-th nearest robot frame.
    `mlp`: a small nonlinear estimator. `perplexity`, `delta_perplexity`: under the VLM tuned on robot data with actions
    as text. `dsir`: importance weights of hashed n-grams. `clip`: image-text cosine. `imported`: a column of yours."""

    robot_rows: int = Field(default=50_000, ge=2)
    """Robot frames compared with at the most, the same bound for each set (distance, knn)."""

    normalise: bool = False
    """Scale features to length 1 first, so that distance is a matter of angle (the paper: plain L2)."""

    neighbours: int = Field(default=10, ge=1)
    """k of knn: the distance to the k-th nearest frame counts (Sun et al. 2022)."""

    hidden: int = Field(default=256, ge=1)
    """Width of the MLP's one hidden layer."""

    learning_rate: float = Field(default=1e-4, gt=0)
    """AdamW's rate for the MLP: at the linear estimator's 1e-3 it passed the stop of 0.9 at the first look (demo)."""

    weight_decay: float = Field(default=0.01, ge=0)

    standardize: bool = True
    """Scale features by the training sample's mean and deviation."""

    batch_size: int = Field(default=128, ge=2)
    """Half robot, half pool, as for the estimator."""

    stop_accuracy: float = Field(default=0.9, gt=0.5, le=1.0)
    """Stop once accuracy on the balanced validation split reaches this."""

    max_steps: int = Field(default=2000, ge=1)
    """Stop here at the latest."""

    eval_every: int = Field(default=5, ge=1)
    """Steps between two looks at the validation split."""

    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of each robot set's episodes (never frames), and of the pool, held out for early stopping."""

    test_share: float = Field(default=0.1, gt=0, lt=1)
    """Share held out from everything: the AUROC of the score is measured there. Same seed, same split as estimator."""

    model: str = ""
    """perplexity: the VLM (folder or hub name); empty: the one that made the features. clip: as in `embed.model`."""

    revision: str | None = None
    """Hub revision of the VLM."""

    tune_steps: int = Field(default=100, ge=1)
    """Steps of fine-tuning on robot samples with actions as text. The paper gives no number."""

    tune_rate: float = Field(default=5e-5, gt=0)
    """AdamW's peak rate of that fine-tuning (cosine; the paper's rate of VLA fine-tuning)."""

    tune_batch: int = Field(default=16, ge=1)
    """Robot samples a step; each robot set is equally likely."""

    action_bins: int = Field(default=256, ge=2)
    """An action dimension becomes the number of its bin, of equal bins between its 1 % and 99 % quantiles (RT-2)."""

    max_text_tokens: int = Field(default=1024, ge=8)
    """perplexity: longest conversation in tokens, images included; longer ones are cut at the end, images never."""

    max_images: int = Field(default=4, ge=1)
    """At most this many images of a sample are shown to the model."""

    text: Literal["user", "full"] = "full"
    """dsir: the user turns of a pool sample, or the whole conversation. Robots have their instruction."""

    ngrams: int = Field(default=2, ge=1, le=4)
    """dsir: longest word n-gram (Xie et al. 2023: 2)."""

    buckets: int = Field(default=10_000, ge=2)
    """dsir: hash buckets (Xie et al. 2023: 10,000)."""

    per_token: bool = False
    """dsir: divide the log weight by the number of n-grams; undivided it falls with the length of the text."""

    path: str = ""
    """imported: a parquet or CSV file with an id (`source:row`) and a number a row, relative to the base folder."""

    meta: str = ""
    """imported: instead of a file, a number that the samples carry themselves (a key of their `meta`)."""

    column: str = "score"
    """imported: the file's column with the score."""

    id_column: str = "id"
    """imported: the file's column with the sample's id."""

    lower_is_nearer: bool = False
    """imported: turn the sign, because in this column small means near."""

    seed: int = 0

    @model_validator(mode="after")
    def _fields_of_its_kind(self) -> MeasureConfig:
        used = {"kind", "seed", *USED[self.kind]}
        stray = sorted(self.model_fields_set - used)
        if stray:
            known = ", ".join(sorted(used - {"kind"}))
            raise ValueError(
                f"{', '.join(stray)}: not used by kind {self.kind!r}, which takes {known}"
            )
        if self.kind == "imported" and bool(self.path) == bool(self.meta):
            raise ValueError(
                "kind 'imported' takes a file (`path`) or a key of the samples' own (`meta`)"
            )
        if self.kind == "clip" and not self.model:
            raise ValueError("kind 'clip' needs `model`, as in embed.model")
        if self.validation_share + self.test_share >= 0.9:
            raise ValueError("validation_share + test_share leave less than a tenth for training")
        return self

    def file(self, base: Path) -> Path:
        """The imported file. Raises EmtError where there is none."""
        path = base / Path(self.path).expanduser()
        if not path.is_file():
            raise EmtError(
                "the file with scores does not exist", where=path, remedy="set measure.path"
            )
        return path

    def left_out(self) -> set[str]:
        return set(type(self).model_fields) - {"kind", "seed", *USED[self.kind]}


class EstimatorConfig(StageConfig):
    kind: Literal["linear"] = "linear"
    """One linear layer on the frozen feature (method section 4)."""

    batch_size: int = Field(default=128, ge=2)
    """Half robot, half pool (paper: 128, balanced sampling)."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """AdamW's peak rate. The paper does not give one."""

    weight_decay: float = Field(default=0.0, ge=0)

    standardize: bool = True
    """Scale features by the training sample's mean and deviation (folded into the weights afterwards)."""

    stop_accuracy: float = Field(default=0.9, gt=0.5, le=1.0)
    """Stop once accuracy on the balanced validation split reaches this (paper: 0.90)."""

    max_steps: int = Field(default=2000, ge=1)
    """Stop here at the latest."""

    eval_every: int = Field(default=5, ge=1)
    """Steps between two looks at the validation split."""

    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of each robot set's episodes (never frames), and of the pool, held out for early stopping."""

    test_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of episodes and pool held out from training *and* stopping; AUROC and calibration are measured here."""

    seed: int = 0

    @model_validator(mode="after")
    def _shares(self) -> EstimatorConfig:
        if self.validation_share + self.test_share >= 0.9:
            raise ValueError("validation_share + test_share leave less than a tenth for training")
        return self


class ScoreConfig(StageConfig):
    sweep_sample: int = Field(default=2000, ge=2)
    """Seeded pool subsample on which diversity and MMD are worked out for every possible cut (Select page)."""

    seed: int = 0
