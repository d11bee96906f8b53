"""What would be selected while a slider moves: built once, asked in milliseconds at 10M rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from emt_core.data.draws import at_least, falling_keys, ordered_rows
from emt_core.recipe.selection import SelectConfig
from emt_core.selection.candidates import Candidates
from emt_core.selection.decide import asked_size
from emt_core.selection.limits import fill, limits_of


@dataclass(frozen=True, kw_only=True)
class Composition:
    """How many rows of each source and category are selected."""

    counts: np.ndarray
    """int64 [sources, categories]."""
    threshold: float
    """Logit of the last selected row (+inf where none is)."""

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def by_source(self) -> np.ndarray:
        return self.counts.sum(axis=1)

    @property
    def by_category(self) -> np.ndarray:
        return self.counts.sum(axis=0)


class Preview:
    """Eligible pool rows in rank order, and the rising ranks of each (source, category) cell.

    A threshold becomes a rank by one binary search, a rank becomes counts by one binary search a
    cell; ties are exact because ranks have none. Memory: about 14 bytes a row.
    """

    def __init__(self, candidates: Candidates, *, include_text_only: bool = False) -> None:
        if candidates.logit is None or candidates.category is None:
            raise ValueError("a preview needs scores and categories")
        self.candidates = candidates
        self.include_text_only = include_text_only
        code, _ = candidates.not_eligible(include_text_only=include_text_only)
        eligible = np.flatnonzero(code == 0)
        order = ordered_rows(falling_keys(candidates.logit[eligible], eligible))
        self.order = order.astype(np.uint32)
        """Index rows, best first."""
        self.rising = -candidates.logit[order]
        """Negated logits in rank order, so that they rise and can be searched."""
        width = max(len(candidates.categories), 1)
        source = candidates.source[order].astype(np.int16)
        cell = source * np.int16(width) + candidates.category[order].astype(np.int16)
        self._cell = cell
        # numpy sorts int16 by radix; stable, so that ranks rise inside each cell
        self._ranks = np.argsort(cell, kind="stable").astype(np.uint32)
        bounds = np.searchsorted(cell[self._ranks], np.arange(len(candidates.sources) * width + 1))
        self._bounds = bounds
        self._cells = [self._ranks[low:high] for low, high in pairwise(bounds)]
        self._shape = (len(candidates.sources), width)

    @property
    def eligible(self) -> int:
        return len(self.order)

    @property
    def by_cell(self) -> tuple[np.ndarray, np.ndarray]:
        """(uint32 index rows, cell after cell of (source, category); int64 [cells + 1] bounds).

        Rows are best first in each cell.
        """
        return self.order[self._ranks], self._bounds

    @cached_property
    def totals(self) -> np.ndarray:
        """int64 [sources, categories] of all eligible rows."""
        return self.at_k(self.eligible).counts

    def k_of(self, threshold: float) -> int:
        """Rows with a logit of at least the threshold."""
        return int(np.searchsorted(self.rising, -at_least(threshold), side="right"))

    def threshold_of(self, k: int) -> float:
        """Logit of the k-th row; +inf for k <= 0.

        `k_of` of it is k, or more where rows share that logit.
        """
        return float(-self.rising[min(k, self.eligible) - 1]) if k > 0 and self.eligible else np.inf

    def at_k(self, k: int) -> Composition:
        """The k best rows."""
        rank = np.uint32(min(max(k, 0), self.eligible))
        counts = np.array([np.searchsorted(ranks, rank) for ranks in self._cells], np.int64)
        threshold = self.threshold_of(int(rank))
        return Composition(counts=counts.reshape(self._shape), threshold=threshold)

    def at_threshold(self, threshold: float) -> Composition:
        return self.at_k(self.k_of(threshold))

    def composition(self, config: SelectConfig) -> Composition:
        """Exactly what `decide` would select for a `top` configuration, with caps and quotas."""
        if not config.plain_top or config.include_text_only != self.include_text_only:
            raise ValueError("this preview is built for plain 'top' and another include_text_only")
        size = asked_size(config, self.eligible)
        limits = limits_of(config, self.candidates, size)
        end = self.eligible if config.threshold is None else self.k_of(config.threshold)
        if not limits:
            return self.at_k(end if size is None else min(size, end))
        cell = self._cell[:end]
        codes = {"source": cell // self._shape[1], "category": cell % self._shape[1]}
        taken = fill(limits, codes, size)[0] if end else np.empty(0, np.int64)
        counts = np.bincount(cell[taken], minlength=self._shape[0] * self._shape[1])
        last = float(-self.rising[taken[-1]]) if len(taken) else np.inf
        return Composition(counts=counts.astype(np.int64).reshape(self._shape), threshold=last)

    def rows_near(self, threshold: float, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(int64 index rows just in, just out), at most `count` each, nearest to the cut first."""
        k = self.k_of(threshold)
        inside = self.order[max(k - count, 0) : k][::-1]
        outside = self.order[k : k + count]
        return inside.astype(np.int64), outside.astype(np.int64)
