"""Which samples a gallery shows and in what order; some ten milliseconds at 1M rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from emt_core.workspace.table import Coded

Show = Literal["selected", "left", "near", "pool", "robot"]
Sort = Literal["near", "far", "index", "random"]
NOTED = "has a note"
"""A choice among the flags of a filter."""
NEAR_ROWS = 480


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns of one index, arrays [rows]; None where a stage has not run."""

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
    """A filter; an empty tuple lets everything pass."""

    show: Show = "pool"
    sources: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    scores: tuple[float, float] | None = None
    """Lowest and highest logit, both inside; rows without a score do not pass."""
    only: list[np.ndarray] = field(default_factory=list)
    """int64 rows of searches and regions: rows in all of them pass."""


def passing(columns: Columns, wanted: Wanted) -> np.ndarray:
    """bool [rows]: the rows that pass."""
    keep = ~columns.pool if wanted.show == "robot" else columns.pool.copy()
    if wanted.show in ("selected", "left") and columns.reason is not None:
        keep &= (columns.reason.codes == 0) == (wanted.show == "selected")
    if wanted.show == "near":
        keep &= near_cut(columns)
    for column, names in (
        (columns.source, wanted.sources),
        (columns.category, wanted.categories),
        (columns.reason, wanted.reasons),
    ):
        if names and column is not None:
            keep &= np.isin(column.codes, [column.code(name) for name in names])
    if wanted.flags and columns.flag is not None:
        codes = [columns.flag.code(name) for name in wanted.flags if name != NOTED]
        flagged = np.isin(columns.flag.codes, codes)
        if NOTED in wanted.flags:
            flagged[list(columns.noted)] = True
        keep &= flagged
    if wanted.scores is not None and columns.logit is not None:
        with np.errstate(invalid="ignore"):
            keep &= (columns.logit >= wanted.scores[0]) & (columns.logit <= wanted.scores[1])
    for rows in wanted.only:
        inside = np.zeros(len(keep), bool)
        inside[rows] = True
        keep &= inside
    return keep


def near_cut(columns: Columns, count: int = NEAR_ROWS) -> np.ndarray:
    """bool [rows]: the pool rows next to the selection's lowest score, `count` / 2 on each side."""
    near = np.zeros(len(columns.pool), bool)
    if columns.reason is None or columns.order is None or columns.logit is None:
        return near
    scored = columns.order[columns.pool[columns.order]]
    selected = columns.logit[columns.reason.codes == 0]
    selected = selected[np.isfinite(selected)]
    if len(selected):
        at = int(np.searchsorted(-columns.logit[scored], -selected.min(), side="right"))
        near[scored[max(at - count // 2, 0) : at + count // 2]] = True
    return near


def arranged(keep: np.ndarray, sort: Sort, order: np.ndarray | None = None) -> np.ndarray:
    """int64: the rows of `keep` (bool [rows]) in order; rows that `order` lacks come last, by row."""
    if sort in ("near", "far") and order is not None:
        ranked = order[keep[order]]
        rest = keep.copy()
        rest[ranked] = False
        return np.concatenate([ranked if sort == "near" else ranked[::-1], np.flatnonzero(rest)])
    rows = np.flatnonzero(keep)
    return np.random.default_rng(0).permutation(rows) if sort == "random" else rows
