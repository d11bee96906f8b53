"""Two selections of the same pool: rows added and removed, by group, with examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emt_core.workspace.table import Coded


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Changes from selection `before` to `after`; both are reasons, code 0 = selected."""

    before: Coded
    after: Coded

    @cached_property
    def came_in(self) -> np.ndarray:
        """int64: rows in `after` only, rising."""
        return np.flatnonzero((self.after.codes == 0) & (self.before.codes != 0))

    @cached_property
    def went_out(self) -> np.ndarray:
        """int64: rows in `before` only, rising."""
        return np.flatnonzero((self.before.codes == 0) & (self.after.codes != 0))

    @cached_property
    def stayed(self) -> int:
        """Rows in both."""
        return int(((self.before.codes == 0) & (self.after.codes == 0)).sum())

    @property
    def overlap(self) -> float:
        """Jaccard index: rows in both over rows in either; NaN if both are empty."""
        either = self.stayed + len(self.came_in) + len(self.went_out)
        return self.stayed / either if either else float("nan")

    def by_group(self, codes: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows added, rows removed), int64 [groups] each. codes: integer [rows], places of groups."""
        return (
            np.bincount(codes[self.came_in], minlength=groups),
            np.bincount(codes[self.went_out], minlength=groups),
        )

    def why_out(self) -> dict[str, int]:
        """Reason in `after` -> rows removed, most frequent first."""
        counts = np.bincount(self.after.codes[self.went_out], minlength=len(self.after.names))
        return {
            self.after.names[place]: int(counts[place])
            for place in np.argsort(-counts, kind="stable")
            if counts[place]
        }


def examples(
    rows: np.ndarray, logit: np.ndarray | None, count: int, *, seed: int = 0
) -> np.ndarray:
    """int64: at most `count` of `rows`, evenly spread over their scores, best first.

    Without scores they are drawn at random.
    """
    if len(rows) <= count:
        chosen = rows
    elif logit is None:
        chosen = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
    else:
        ranked = rows[np.argsort(-np.nan_to_num(logit[rows], nan=-np.inf), kind="stable")]
        chosen = ranked[np.linspace(0, len(ranked) - 1, count).round().astype(np.int64)]
    if logit is None:
        return chosen
    return chosen[np.argsort(-np.nan_to_num(logit[chosen], nan=-np.inf), kind="stable")]
