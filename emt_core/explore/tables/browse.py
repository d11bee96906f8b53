"""Which samples a gallery shows and in what order: masks over narrow columns, some ten milliseconds at 1M rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from emt_core.workspace.table import Coded

Show = Literal["selected", "left", "near", "pool", "robot"]
Sort = Literal["near", "far", "index", "random"]
NOTED = "has a note"
"""Stands among the flags in a filter."""
NEAR_ROWS = 480


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Columns of one pool, arrays [rows]; None where a stage has not run."""

    pool: np.ndarray
    """bool."""
    source: Coded
    category: Coded | None = None
    reason: Coded | None = None
    flag: Coded | None = None
    noted: tuple[int, ...] = ()
    """Rows with a note."""
    logit: np.ndarray | None = None
    order: np.ndarray | None = None
    """int64: rows with a score, best first."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What passes; an empty tuple lets everything pass."""

    show: Show = "pool"
    sources: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    scores: tuple[float, float] | None = None
    """Lowest and highest logit, both inside; rows without a score do not pass."""
    only: list[np.ndarray] = field(default_factory=list)
    """int64 rows of a search or a region: what lies in all of them passes."""


def passing(facts: Facts, wanted: Wanted) -> np.ndarray:
    """bool [rows]."""
    keep = ~facts.pool if wanted.show == "robot" else facts.pool.copy()
    if wanted.show in ("selected", "left") and facts.reason is not None:
        keep &= (facts.reason.codes == 0) == (wanted.show == "selected")
    if wanted.show == "near":
        keep &= near_cut(facts)
    for column, names in (
        (facts.source, wanted.sources),
        (facts.category, wanted.categories),
        (facts.reason, wanted.reasons),
    ):
        if names and column is not None:
            keep &= np.isin(column.codes, [column.code(name) for name in names])
    if wanted.flags and facts.flag is not None:
        flagged = np.isin(
            facts.flag.codes, [facts.flag.code(name) for name in wanted.flags if name != NOTED]
        )
        if NOTED in wanted.flags:
            flagged[list(facts.noted)] = True
        keep &= flagged
    if wanted.scores is not None and facts.logit is not None:
        with np.errstate(invalid="ignore"):
            keep &= (facts.logit >= wanted.scores[0]) & (facts.logit <= wanted.scores[1])
    for rows in wanted.only:
        inside = np.zeros(len(keep), bool)
        inside[rows] = True
        keep &= inside
    return keep


def near_cut(facts: Facts, count: int = NEAR_ROWS) -> np.ndarray:
    """bool [rows]: the pool rows next to the selection's lowest score, `count` / 2 on each side."""
    near = np.zeros(len(facts.pool), bool)
    if facts.reason is None or facts.order is None or facts.logit is None:
        return near
    scored = facts.order[facts.pool[facts.order]]
    selected = facts.logit[facts.reason.codes == 0]
    selected = selected[np.isfinite(selected)]
    if len(selected):
        at = int(np.searchsorted(-facts.logit[scored], -selected.min(), side="right"))
        near[scored[max(at - count // 2, 0) : at + count // 2]] = True
    return near


def arranged(keep: np.ndarray, sort: Sort, order: np.ndarray | None = None) -> np.ndarray:
    """int64: the rows that pass (bool [rows]), in order; those without a place in `order` come last, by row."""
    if sort in ("near", "far") and order is not None:
        ranked = order[keep[order]]
        rest = keep.copy()
        rest[ranked] = False
        return np.concatenate([ranked if sort == "near" else ranked[::-1], np.flatnonzero(rest)])
    rows = np.flatnonzero(keep)
    return np.random.default_rng(0).permutation(rows) if sort == "random" else rows
