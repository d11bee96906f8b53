"""What a recipe says about the trust report.

trust: {parents: {score: learned}, compare: [knn, distance, random]}
"""

from __future__ import annotations

from pydantic import Field, field_validator

from emt_core.recipe.base import StageConfig


class TrustConfig(StageConfig):
    compare: tuple[str, ...] = ()
    """Further scores to show agreement and planted truth for, by name (`knn` is score.knn)."""

    top_share: float = Field(default=0.25, gt=0, lt=1)
    """Overlap and precision are measured on this best share: the size of the selection in mind."""

    sample_rows: int = Field(default=20_000, ge=10)
    """Seeded pool subsample that rankings are compared on."""

    seeds: int = Field(default=5, ge=2)
    """Times the measure is fitted again with another seed (split, batches, frames kept)."""

    stop_points: tuple[int, ...] = (25, 50, 100, 200, 400)
    """Steps after which the ranking is compared with the estimator's own."""

    folds: int = Field(default=5, ge=2)
    """Folds of the pool for scores by an estimator that never met the sample."""

    pool_rows: int = Field(default=400, ge=0)
    """Pool samples embedded again as image only, text only, gray, ...; 0: no such audits."""

    robot_rows: int = Field(default=200, ge=2)
    """Robot frames embedded again, in equal parts of each set (at least 16 a set, spread over its
    episodes)."""

    jpeg_quality: int = Field(default=50, ge=1, le=95)
    """Style audit: every image through JPEG of this quality."""

    side: int | None = Field(default=None, ge=8)
    """Style audit, `one size`: every image is scaled down to this many pixels on both sides and up
    to twice that. None: half of the encoder's own input size (56 for the tiny VLM, 224 for
    InternVL3.5's 448), or 224 where it keeps an image's own size. At the encoder's own size or
    above nothing would change: it scales to that anyway."""

    planted_meta: str = "content"
    """Key of the samples' own facts that says what is near in truth (the demo's is `content`)."""

    planted_near: str = "embodied"
    """The value under that key that means near."""

    planted_style: str = "style"
    """Key of a sample's look; planted truth is also measured within each of its values."""

    near_ids: tuple[str, ...] = ()
    """Or ids of the samples that you know to be near; all others of the pool count as far."""

    disagreements: int = Field(default=6, ge=1)
    """Samples shown that another measure ranks far above, and far below, this score."""

    seed: int = 0

    @field_validator("stop_points")
    @classmethod
    def _rising(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if not steps or sorted(set(steps)) != list(steps) or steps[0] < 1:
            raise ValueError("stop_points are rising step numbers")
        return steps

    def further(self) -> tuple[str, ...]:
        return tuple(f"score.{name}" for name in self.compare)
