"""A cut while it is tuned: K from a threshold or fraction, and its diversity and distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from emt_core.recipe.selection import Caps, SelectConfig
from emt_core.selection import Preview


@dataclass(frozen=True, kw_only=True)
class Cut:
    """K rows by score, and caps. The threshold and the fraction follow from K."""

    k: int
    caps_source: Mapping[str, int] = field(default_factory=dict)
    caps_category: Mapping[str, int] = field(default_factory=dict)

    def config(self) -> SelectConfig:
        """The settings that `select` reproduces this cut from."""
        return SelectConfig(
            k=max(self.k, 1),
            caps=Caps(source=dict(self.caps_source), category=dict(self.caps_category)),
        )


def from_fraction(preview: Preview, fraction: float) -> int:
    """K for a share of the eligible pool, at least 1 (rounded half up, as `select` does)."""
    return max(1, int(np.floor(fraction * preview.eligible + 0.5))) if preview.eligible else 0


def from_threshold(preview: Preview, threshold: float) -> int:
    """K for a logit; at least 1, because a selection of nothing is no selection."""
    return max(1, preview.k_of(threshold)) if preview.eligible else 0


def at_threshold(sweep: pa.Table, threshold: float) -> dict[str, float | None]:
    """`diversity` and `mmd2_to_robot` of the sweep cut at this logit; None below 2 rows."""
    logit = sweep["logit"].to_numpy()
    kept = int(np.searchsorted(-logit, -threshold, side="right"))
    if kept < 2:
        return {"diversity": None, "mmd2_to_robot": None, "rows": float(kept)}
    found = {name: float(sweep[name][kept - 1].as_py()) for name in ("diversity", "mmd2_to_robot")}
    return {
        **{name: value if np.isfinite(value) else None for name, value in found.items()},
        "rows": float(kept),
    }


def embodied_share(
    counts: np.ndarray, categories: Sequence[str], embodied: Sequence[str]
) -> float | None:
    """Share of the counts (int [categories]) that fall into the embodied-oriented categories."""
    total = int(counts.sum())
    if not total:
        return None
    return float(
        counts[[place for place, name in enumerate(categories) if name in embodied]].sum() / total
    )
