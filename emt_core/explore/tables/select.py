"""A cut while it is tuned: K from a threshold or fraction, and its diversity and distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from emt_core.explore.tables.measured import Measured
from emt_core.recipe.selection import Caps, SelectConfig
from emt_core.selection import Preview
from emt_core.workspace.artifact import Artifact

OTHER_THAN_TOP = ("random_share", "spread_penalty", "clusters", "include_text_only")
"""Settings with which not the best rows by score are selected."""

LEAST_ROWS = 10
"""Rows of a sample below which its standard error means nothing."""


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


def at_threshold(sweep: pa.Table, threshold: float) -> dict[str, Measured]:
    """`diversity` and `mmd2_to_robot` of the sweep cut at this logit.

    Missing below 2 rows, and below LEAST_ROWS rows of a sample.
    """
    logit = sweep["logit"].to_numpy()
    kept = int(np.searchsorted(-logit, -threshold, side="right"))

    def at(column: str, row: int) -> float:
        return float(sweep[column][row].as_py()) if column in sweep.column_names else 0.0

    found = {}
    for name in ("diversity", "mmd2_to_robot"):
        found[name] = Measured(None)
        sampled = len(logit) > 0 and at(f"{name}_error", len(logit) - 1) > 0
        if kept >= (LEAST_ROWS if sampled else 2) and np.isfinite(at(name, kept - 1)):
            found[name] = Measured(at(name, kept - 1), at(f"{name}_error", kept - 1))
    return found


def is_cut(select: Artifact, cut: Cut, total: int, excluded: int) -> bool:
    """Whether this cut of `total` rows, with so many rows excluded, is what was selected."""
    made = select.config
    return (
        made["strategy"] == "top"
        and not any(made.get(setting) for setting in OTHER_THAN_TOP)
        and not any(made["quotas"].values())
        and made["caps"] == {"source": cut.caps_source, "category": cut.caps_category}
        and total == select.metrics["selected"]
        and excluded == select.metrics["reasons"].get("excluded", 0)
    )
