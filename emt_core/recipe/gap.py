"""What a recipe says about the gap between pool and robot data (method section 3)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from emt_core.recipe.base import StageConfig


class GapConfig(StageConfig):
    sample_per_source: int = Field(default=2000, ge=2)
    """Seeded subsample of each source for MMD and diversity between sources."""

    projection: Literal["umap", "pacmap", "tsne"] = "umap"
    """Method of the 2-D map."""

    projection_fit: int = Field(default=20_000, ge=10)
    """Samples (seeded, of all sources) that the map is fitted on; others are placed on it."""

    neighbors: int = Field(default=15, ge=2)
    """Neighbors of UMAP and PaCMAP; t-SNE's perplexity is at most three times as many."""

    min_dist: float = Field(default=0.1, ge=0)
    """UMAP's min_dist."""

    seed: int = 0
