"""What a recipe says about each stage: one frozen model a stage, holding only what changes the stage's output.

Device, worker count, batch size in memory and the like live in `Runtime`, which enters no key.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from emt_core.source_config import Frozen, SourceConfig


class StageConfig(Frozen):
    def uses(self) -> tuple[str, ...]:
        """Optional parents (Stage.may_use) that this configuration asks for."""
        return ()

    def further(self) -> tuple[str, ...]:
        """Further instances of parent stages, as `stage.name` (`stage.` is the unnamed one)."""
        return ()

    def left_out(self) -> set[str]:
        """Fields that say nothing about the output as things stand: neither written nor hashed."""
        return set()

    @model_serializer(mode="wrap")
    def _without_left_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain = self.left_out()
        return {name: value for name, value in serialize(self).items() if name not in plain}


class SourcesConfig(StageConfig):
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    """All sources, pool and robot, in order. The order is the row order of everything that follows."""


class EmbedConfig(StageConfig):
    encoder: Literal["vlm", "clip", "fake"] = "vlm"
    """`vlm`: last hidden state of a frozen VLM (method section 2). `clip`: open_clip image tower. `fake`: for tests."""

    model: str = ""
    """Hub name or folder of the model. For clip `architecture` or `architecture/pretrained-tag-or-file`."""

    revision: str | None = None
    """Hub revision; None takes the newest and records which commit that was."""

    pooling: Literal["last", "mean"] = "mean"
    """How tokens become one vector: mean over all non-padding tokens, or the last token. The paper does not say."""

    pool_text: Literal["none", "user", "full"] = "user"
    """Text given with pool images. `full` includes the answers."""

    robot_text: Literal["none", "instruction"] = "instruction"
    """Text given with robot frames. No template is added: one that only robots have would let a classifier cheat."""

    max_images: int = Field(default=4, ge=1)
    """At most this many images of a sample are embedded; further ones are counted as `images_beyond_bound`."""

    max_image_pixels: int = Field(default=768 * 768, ge=1024)
    """Larger images are scaled down to this by processors that keep an image's own size (Qwen; the default is
    LLaMA-Factory's). InternVL's and CLIP's have one fixed size."""

    max_text_tokens: int = Field(default=512, ge=1)
    """Longer text is cut at the end; image tokens are never cut."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Weights and arithmetic of the encoder. auto: bfloat16 on a GPU that has it, else float32."""


class CategoryConfig(StageConfig):
    image_labels: bool = False
    """Also classify by image, zero-shot, with the CLIP features of the embed instance this one is given as parent."""

    def uses(self) -> tuple[str, ...]:
        return ("embed",) if self.image_labels else ()


class GapConfig(StageConfig):
    sample_per_source: int = Field(default=2000, ge=2)
    """Seeded subsample of each source for MMD and diversity."""

    mmd: Literal["biased", "unbiased"] = "biased"
    """Squared MMD as in the paper (V-statistic), or the unbiased U-statistic (may be below 0)."""

    diversity_t: float = Field(default=2.0, gt=0)
    """t of S(D) = 1 / E[exp(-t |u - v|^2)] (method section 7)."""

    projection: Literal["umap", "pacmap", "tsne"] = "umap"
    """Method of the 2-D map."""

    projection_fit: int = Field(default=20_000, ge=10)
    """Samples (seeded, spread over sources) the map is fitted on; all others are placed on the fitted map."""

    neighbors: int = Field(default=15, ge=2)
    """Neighbours of UMAP and PaCMAP; t-SNE's perplexity is capped by it times 3."""

    min_dist: float = Field(default=0.1, ge=0)
    """UMAP's min_dist."""

    seed: int = 0


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


class Caps(Frozen):
    source: dict[str, int] = {}
    """At most this many samples of a source."""

    category: dict[str, int] = {}
    """At most this many samples of a category."""


class Quotas(Frozen):
    source: dict[str, float] = {}
    """Share of the selection for each named source; shares sum to 1, unnamed sources get none."""

    category: dict[str, float] = {}
    """The same by category. Give source or category quotas, not both."""

    @model_validator(mode="after")
    def _sum(self) -> Quotas:
        if self.source and self.category:
            raise ValueError("give quotas by source or by category, not both")
        for shares in (self.source, self.category):
            if shares and (min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6):
                raise ValueError(f"quota shares are >= 0 and sum to 1, these sum to {sum(shares.values()):g}")
        return self


class Clusters(Frozen):
    """Spread a selection over k-means cells of the feature space, in the style of SemDeDup (Abbas et al. 2023)."""

    cells: int = Field(default=100, ge=2, le=10_000)
    """Cells, fitted on length-1 features of a seeded sample of the pool."""

    most: float | None = Field(default=2.0, gt=0)
    """At most this multiple of the equal share (K / cells) from a cell; None: no cap, duplicates only."""

    duplicate_cosine: float | None = Field(default=None, gt=0, le=1)
    """Leave a row out whose feature has at least this cosine with a better row of its cell. None: keep them."""

    fit_rows: int = Field(default=20_000, ge=2)
    """Seeded sample that the cells are fitted on."""


class SelectConfig(StageConfig):
    strategy: Literal["top", "random", "all", "gumbel"] = "top"
    """`top`: highest proximity score first. `random`: a seeded uniform draw. `all`: the whole pool. `gumbel`: a seeded
    draw without replacement in which a row weighs exp(score / temperature) (Gumbel top-K, Kool et al. 2019)."""

    temperature: float = Field(default=1.0, gt=0)
    """gumbel: in units of the score. 1 with a logit draws by the density ratio itself; towards 0 it is `top`."""

    random_share: float = Field(default=0.0, ge=0, lt=1)
    """top, gumbel: fill this share of the selection with a seeded uniform draw from the rest of the pool."""

    clusters: Clusters | None = None
    """Spread over cells of the feature space, near-duplicates left out; goes with every strategy."""

    k: int | None = Field(default=None, ge=1)
    """Keep K samples (paper: 1.2 M)."""

    fraction: float | None = Field(default=None, gt=0, le=1)
    """Keep this share of the eligible pool."""

    threshold: float | None = None
    """Keep samples whose logit is at least this (strategy `top`)."""

    include_text_only: bool = False
    """Let rows without an image take part; otherwise they are left out under the reason `text_only`."""

    caps: Caps = Caps()
    quotas: Quotas = Quotas()

    exclude: tuple[str, ...] = ()
    """Sample ids never taken (reason `excluded`): `source:row`, or many of a source as `source:3,7,10-19`."""

    seed: int = 0

    @model_validator(mode="after")
    def _one_size(self) -> SelectConfig:
        sizes = [name for name in ("k", "fraction", "threshold") if getattr(self, name) is not None]
        if self.strategy == "all" and sizes:
            raise ValueError("strategy 'all' takes no k, fraction or threshold")
        if self.strategy != "all" and len(sizes) != 1:
            raise ValueError(f"give exactly one of k, fraction, threshold (given: {sizes or 'none'})")
        if self.strategy == "random" and self.threshold is not None:
            raise ValueError("strategy 'random' has no score to hold against a threshold; give k or fraction")
        if (self.quotas.source or self.quotas.category) and self.k is None and self.fraction is None:
            wrong = "strategy 'all'" if self.strategy == "all" else "threshold"
            raise ValueError(f"quotas share out a fixed number: give k or fraction, not {wrong}")
        if self.strategy == "gumbel" and self.threshold is not None:
            raise ValueError("strategy 'gumbel' draws a fixed number: give k or fraction, not threshold")
        if "temperature" in self.model_fields_set and self.strategy != "gumbel":
            raise ValueError("only strategy 'gumbel' has a temperature")
        if self.random_share and (self.strategy not in ("top", "gumbel") or self.threshold is not None):
            raise ValueError("random_share goes with strategy 'top' or 'gumbel' and k or fraction")
        if self.clusters and self.clusters.most is not None and self.k is None and self.fraction is None:
            raise ValueError(
                "a cap for each cell is a share of a fixed number: give k or fraction, or clusters.most: null"
            )
        return self

    def uses(self) -> tuple[str, ...]:
        return ("score",) if self.strategy in ("top", "gumbel") else ()

    @property
    def plain_top(self) -> bool:
        """Whether a row is selected for its score and its groups' limits alone: what sliders can preview."""
        return self.strategy == "top" and not self.random_share and self.clusters is None


class Runtime(Frozen):
    """How and where to run; changes no result (a test says so) and enters no key.

    To the last bit, but for measures that run a model: perplexities and CLIP scores of another batch size agree to
    rounding, and so do those of a GPU in its own precision.
    """

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`."""

    workers: int = Field(default=2, ge=0)
    """Processes that decode images."""

    batch_size: int = Field(default=64, ge=1)
    """Samples a forward pass at the most; halved by itself when memory runs out. Where a recipe leaves it out,
    mid-training takes as many of these as are expected to fit (`emt midtrain RECIPE --dry-run`)."""

    gradient_checkpointing: bool = False
    """Training: work activations out again in the backward pass instead of keeping them (less memory, a third more
    time)."""

    commit_rows: int = Field(default=50_000, ge=1)
    """Rows between two commits of a store under construction: what a kill can cost at the most."""
