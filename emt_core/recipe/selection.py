"""What a recipe says about selection: how many rows, which ones, which not (method section 6)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from emt_core.recipe.base import Frozen, StageConfig


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
                raise ValueError(
                    f"quota shares are >= 0 and sum to 1, these sum to {sum(shares.values()):g}"
                )
        return self


class Clusters(Frozen):
    """Spread a selection over k-means cells of the feature space (SemDeDup, Abbas et al. 2023)."""

    cells: int = Field(default=100, ge=2, le=10_000)
    """Cells, fitted on length-1 features of a seeded sample of the pool."""

    most: float | None = Field(default=2.0, gt=0)
    """Most rows from a cell, in equal shares (K / cells). None: no cap, duplicates only."""

    duplicate_cosine: float | None = Field(default=None, gt=0, le=1)
    """Leave a row out whose feature has at least this cosine with a better row of its cell. None:
    keep them."""

    fit_rows: int = Field(default=20_000, ge=2)
    """Seeded sample that the cells are fitted on."""


class SelectConfig(StageConfig):
    ADDED = frozenset({"spread_penalty"})

    strategy: Literal["top", "random", "all", "gumbel"] = "top"
    """`top`: highest proximity score first. `random`: a seeded uniform draw. `all`: the whole pool.
    `gumbel`: a seeded draw without replacement in which a row weighs exp(score / temperature)
    (Gumbel top-K, Kool et al. 2019)."""

    temperature: float = Field(default=1.0, gt=0)
    """gumbel: in units of the score. A logit at 1 draws by density ratio; near 0 it is `top`."""

    random_share: float = Field(default=0.0, ge=0, lt=1)
    """top, gumbel: fill this share of the selection with a seeded uniform draw from the rest."""

    spread_penalty: float = Field(default=0.0, ge=0)
    """top, gumbel: rank by the score minus this many of its standard deviations over the
    estimator's seeds: a sample that only some of them score high comes later."""

    clusters: Clusters | None = None
    """Spread over cells of the feature space, near-duplicates left out; for every strategy."""

    k: int | None = Field(default=None, ge=1)
    """Keep K samples (paper: 1.2 M)."""

    fraction: float | None = Field(default=None, gt=0, le=1)
    """Keep this share of the eligible pool."""

    threshold: float | None = None
    """Keep samples whose logit is at least this (strategy `top`)."""

    include_text_only: bool = False
    """Let rows without an image take part; else they are left out as `text_only`."""

    caps: Caps = Caps()
    quotas: Quotas = Quotas()

    exclude: tuple[str, ...] = ()
    """Sample ids never taken (reason `excluded`): `source:row` or `source:3,7,10-19`."""

    seed: int = 0

    @model_validator(mode="after")
    def _one_size(self) -> SelectConfig:
        sizes = [name for name in ("k", "fraction", "threshold") if getattr(self, name) is not None]
        if self.strategy == "all" and sizes:
            raise ValueError("strategy 'all' takes no k, fraction or threshold")
        if self.strategy != "all" and len(sizes) != 1:
            raise ValueError(
                f"give exactly one of k, fraction, threshold (given: {sizes or 'none'})"
            )
        if self.strategy == "random" and self.threshold is not None:
            raise ValueError(
                "strategy 'random' has no score to hold against a threshold; give k or fraction"
            )
        if (
            (self.quotas.source or self.quotas.category)
            and self.k is None
            and self.fraction is None
        ):
            wrong = "strategy 'all'" if self.strategy == "all" else "threshold"
            raise ValueError(f"quotas share out a fixed number: give k or fraction, not {wrong}")
        if self.strategy == "gumbel" and self.threshold is not None:
            raise ValueError(
                "strategy 'gumbel' draws a fixed number: give k or fraction, not threshold"
            )
        if "temperature" in self.model_fields_set and self.strategy != "gumbel":
            raise ValueError("only strategy 'gumbel' has a temperature")
        if self.spread_penalty and not self.by_score:
            raise ValueError(
                "spread_penalty goes with strategy 'top' or 'gumbel', which rank by score"
            )
        if self.random_share and (not self.by_score or self.threshold is not None):
            raise ValueError("random_share goes with strategy 'top' or 'gumbel' and k or fraction")
        if (
            self.clusters
            and self.clusters.most is not None
            and self.k is None
            and self.fraction is None
        ):
            raise ValueError(
                "a cap for each cell is a share of a fixed number: give k or fraction, or "
                "clusters.most: null"
            )
        return self

    def uses(self) -> tuple[str, ...]:
        asks = {
            "embed": self.clusters is not None,
            "category": bool(self.caps.category or self.quotas.category),
            "score": self.by_score,
        }
        return tuple(stage for stage, asked in asks.items() if asked)

    @property
    def by_score(self) -> bool:
        """Whether it ranks by score."""
        return self.strategy in ("top", "gumbel")

    @property
    def plain_top(self) -> bool:
        """Whether score and limits alone decide on a row: then sliders can preview it."""
        return (
            self.strategy == "top"
            and not self.random_share
            and not self.spread_penalty
            and self.clusters is None
        )
