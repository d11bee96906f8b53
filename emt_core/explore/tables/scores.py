"""Score distributions by group, binned once, so that a figure costs the same for any pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Scale = Literal["logit", "probability", "score"]
"""`score`: values as they are, of a measure that gives no logit."""

BINS = 160
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MIDDLE = (0.05, 0.95)
"""Quantiles that an axis has to show well; wider ones would include outliers of small pools."""


@dataclass(frozen=True)
class Distribution:
    """Histograms of one value over several groups, on the same bins."""

    names: tuple[str, ...]
    edges: np.ndarray
    """float64 [bins + 1]."""

    counts: np.ndarray
    """int64 [groups, bins]."""

    mean: np.ndarray
    """float64 [groups]; NaN for an empty group."""

    quantiles: np.ndarray
    """float64 [groups, 5] at QUANTILES, good to a bin's width; NaN for an empty group."""

    @property
    def totals(self) -> np.ndarray:
        """int64 [groups]: finite values."""
        return self.counts.sum(axis=1)

    @property
    def centers(self) -> np.ndarray:
        return (self.edges[:-1] + self.edges[1:]) / 2

    @property
    def density(self) -> np.ndarray:
        """float64 [groups, bins]: each group integrates to 1 (0 where it is empty)."""
        return self.counts / np.maximum(self.totals, 1)[:, None] / np.diff(self.edges)

    def pick(self, names: Sequence[str]) -> Distribution:
        """These groups, in this order; unknown names are left out."""
        places = [self.names.index(name) for name in names if name in self.names]
        return Distribution(
            tuple(self.names[p] for p in places),
            self.edges,
            self.counts[places],
            self.mean[places],
            self.quantiles[places],
        )

    def by_median(self) -> Distribution:
        """Groups that hold anything, highest median first."""
        filled = np.flatnonzero(self.totals)
        return self.pick(
            [self.names[p] for p in filled[np.argsort(-self.quantiles[filled, 2], kind="stable")]]
        )


def joined(*parts: Distribution) -> Distribution:
    """The groups of all parts side by side. The parts are on the same bins."""
    first = parts[0]
    if any(not np.array_equal(part.edges, first.edges) for part in parts):
        raise ValueError("distributions on different bins cannot be joined")
    return Distribution(
        tuple(name for part in parts for name in part.names),
        first.edges,
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.quantiles for part in parts]),
    )


def to_scale(logit: np.ndarray, scale: Scale) -> np.ndarray:
    """Scores as they are, or logits through the logistic function."""
    if scale != "probability":
        return logit
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logit))


def bin_edges(
    values: np.ndarray, scale: Scale, bins: int = BINS, *, apart: np.ndarray | None = None
) -> np.ndarray:
    """Edges of bins: 0..1 for probabilities; else the extent of the finite values.

    A score that is no logit may have extreme outliers (one perplexity of e^80 among thousands near
    10): then the edges end where `readable_ends` says. apart: bool [n], rows judged by themselves,
    so that a few robot frames beside a large pool are no outliers.
    """
    if scale == "probability":
        return np.linspace(0.0, 1.0, bins + 1)
    there = np.isfinite(values)
    groups = [there] if apart is None else [there & ~apart, there & apart]
    ends = [_ends_of(values[group], scale) for group in groups if group.any()] or [(0.0, 1.0)]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def _ends_of(values: np.ndarray, scale: Scale) -> tuple[float, float]:
    lowest, highest = float(values.min()), float(values.max())
    if scale == "logit":
        return lowest, highest
    first, last = np.quantile(values, MIDDLE)
    return readable_ends(lowest, float(first), float(last), highest)


def readable_ends(lowest: float, first: float, last: float, highest: float) -> tuple[float, float]:
    """Ends of an axis on which the middle of the values takes at least a third of the length.

    first, last: the quantiles MIDDLE. Normal values reach these ends at 4.9 standard deviations.
    """
    width = last - first
    if width <= 0:
        return lowest, highest
    return max(lowest, first - width), min(highest, last + width)


def beyond(values: np.ndarray, edges: np.ndarray) -> int:
    """How many finite values lie outside the edges, so are counted in the outermost bins."""
    with np.errstate(invalid="ignore"):
        return int((np.isfinite(values) & ((values < edges[0]) | (values > edges[-1]))).sum())


def bins_for(rows: int) -> int:
    """Number of bins: fine for many rows; few for small pools, whose histograms are noisy."""
    return int(np.clip(1.2 * np.sqrt(rows), 40, BINS))


def distribution(
    values: np.ndarray,
    codes: np.ndarray,
    names: Sequence[str],
    edges: np.ndarray,
    mask: np.ndarray | None = None,
) -> Distribution:
    """Bin `values` (float [n], NaN ignored) by group; outliers count in the outermost bins.

    codes: integer [n], places in names, negative = no group.
    """
    keep = np.isfinite(values) & (codes >= 0)
    if mask is not None:
        keep &= mask
    bins, groups = len(edges) - 1, len(names)
    kept, code = values[keep], codes[keep].astype(np.int64)
    width = edges[1] - edges[0]
    # clipped before the cast: 1e34 does not fit into int64
    place = np.clip((kept - edges[0]) / width, 0, bins - 1).astype(np.int64)
    counts = np.bincount(code * bins + place, minlength=groups * bins).reshape(groups, bins)
    total = counts.sum(axis=1)
    sums = np.bincount(code, weights=kept.astype(np.float64), minlength=groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums / total
    return Distribution(tuple(names), edges, counts, mean, _quantiles(counts, edges))


def _quantiles(counts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    found = np.full((len(counts), len(QUANTILES)), np.nan)
    for group, row in enumerate(counts):
        if row.sum():
            cumulative = np.concatenate([[0], row.cumsum()]) / row.sum()
            found[group] = np.interp(QUANTILES, cumulative, edges)
    return found


def superiority(better: np.ndarray, worse: np.ndarray) -> float:
    """P(a > b) + P(a = b) / 2 for draws from two histograms on the same bins (int64 [bins]).

    The area under the ROC curve between the two, good to a bin's width; NaN if one is empty.
    """
    if not better.sum() or not worse.sum():
        return float("nan")
    below = np.concatenate([[0], worse.cumsum()[:-1]])
    return float((better * (below + worse / 2)).sum() / better.sum() / worse.sum())
