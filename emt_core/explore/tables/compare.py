"""Two selections over the same pool: what came in, what went out, by source and category, with examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emt_core.workspace.table import Coded


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changes from selection `before` to selection `after`; both are reasons, code 0 = selected."""

    before: Coded
    after: Coded

    @cached_property
    def came_in(self) -> np.ndarray:
        """int64: rows that only `after` takes, rising."""
        return np.flatnonzero((self.after.codes == 0) & (self.before.codes != 0))

    @cached_property
    def went_out(self) -> np.ndarray:
        """int64: rows that only `before` takes, rising."""
        return np.flatnonzero((self.before.codes == 0) & (self.after.codes != 0))

    @cached_property
    def stayed(self) -> int:
        """Rows that both take."""
        return int(((self.before.codes == 0) & (self.after.codes == 0)).sum())

    @property
    def overlap(self) -> float:
        """Jaccard index: rows both take over rows either takes; NaN where neither takes any."""
        either = self.stayed + len(self.came_in) + len(self.went_out)
        return self.stayed / either if either else float("nan")

    def by_group(self, codes: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
        """int64 [groups] each: rows that came in, rows that went out. codes: integer [rows], places of the groups."""
        return (
            np.bincount(codes[self.came_in], minlength=groups),
            np.bincount(codes[self.went_out], minlength=groups),
        )

    def why_out(self) -> dict[str, int]:
        """Reason that `after` gives -> rows that went out, most frequent first."""
        found = np.bincount(self.after.codes[self.went_out], minlength=len(self.after.names))
        return {
            self.after.names[place]: int(found[place])
            for place in np.argsort(-found, kind="stable")
            if found[place]
        }


def examples(
    rows: np.ndarray, logit: np.ndarray | None, count: int, *, seed: int = 0
) -> np.ndarray:
    """int64: at most `count` of `rows`, spread evenly over their scores (best first), or drawn where there are none."""
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
