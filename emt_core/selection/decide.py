"""From candidates and a configuration to a decision: the selected rows, reasons for the others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from emt_core.data.draws import (
    Purpose,
    at_least,
    best_rows,
    gumbel_scores,
    ordered_rows,
    random_keys,
)
from emt_core.recipe.selection import SelectConfig
from emt_core.selection.candidates import Candidates
from emt_core.selection.limits import QUOTA, Limit, fill, limits_of, what_is_left

BELOW_CUT = "below_cut"
NOT_DRAWN = "not_drawn"
NEAR_DUPLICATE = "near_duplicate"


@dataclass(frozen=True, kw_only=True)
class Decision:
    rows: np.ndarray
    """int64 [selected]: index rows, best first."""
    code: np.ndarray
    """int8 [n]: place in `reasons` for every index row; 0 = selected."""
    reasons: tuple[str, ...]
    asked: int | None
    """Size asked for (k, or fraction x eligible); None with a threshold or `all`."""
    eligible: int
    """Rows that could have been selected before any cut, cap or quota."""
    shortfall: dict[str, int]
    """Quota groups that have fewer rows than their quota, and how many are missing."""

    def counts(self) -> dict[str, int]:
        """Rows under each reason ("" = selected); they add up to the index."""
        found = np.bincount(self.code, minlength=len(self.reasons))
        return {
            reason: int(count) for reason, count in zip(self.reasons, found, strict=True) if count
        }


def asked_size(config: SelectConfig, eligible: int) -> int | None:
    """Rows that k or fraction ask for; a fraction is rounded half up and at least 1."""
    if config.k is not None:
        return config.k
    if config.fraction is not None:
        return max(1, math.floor(config.fraction * eligible + 0.5))
    return None


def decide(candidates: Candidates, config: SelectConfig) -> Decision:
    """Take rows greedily in rank order, within caps and quotas.

    The order is falling score (`top`), a weighted or uniform seeded draw (`gumbel`, `random`) or
    that of the index (`all`); ties by row. With a random share, that part of K comes after it,
    drawn from what is left.

    Rows behind the cut are `below_cut` (`not_drawn` for a draw) whatever caps say of them. Quotas
    that a group cannot fill are not shared out again: they are the shortfall. Raises EmtError where
    a cap or quota names something unknown.
    """
    if config.by_score and candidates.logit is None:
        raise ValueError(f"strategy {config.strategy!r} needs scores")
    code, reasons = candidates.not_eligible(include_text_only=config.include_text_only)
    free = code == 0
    eligible = int(np.count_nonzero(free))
    asked = asked_size(config, eligible)
    limits = limits_of(config, candidates, asked)
    reasons.append(NOT_DRAWN if config.strategy in ("random", "gumbel") else BELOW_CUT)
    np.putmask(code, free, np.int8(len(reasons) - 1))
    if candidates.duplicate is not None:
        reasons.append(NEAR_DUPLICATE)
        np.putmask(code, free & candidates.duplicate, np.int8(len(reasons) - 1))
        free = free & ~candidates.duplicate

    by_chance = 0 if asked is None else math.floor(config.random_share * asked + 0.5)
    first = None if asked is None else asked - by_chance
    order = ordered(candidates, config, free, eligible if limits or first is None else first)
    rows = _take(limits, candidates, order, first, code, reasons)
    if by_chance:
        rest = free.copy()
        rest[rows] = False
        drawn = ordered_rows(random_keys(config.seed, np.flatnonzero(rest), Purpose.RANDOM_SHARE))
        room = what_is_left(limits, candidates, rows)
        rows = np.concatenate([rows, _take(room, candidates, drawn, by_chance, code, reasons)])
    code[rows] = 0
    return Decision(
        rows=rows,
        code=code,
        reasons=tuple(reasons),
        asked=asked,
        eligible=eligible,
        shortfall=_shortfall(limits, candidates, rows),
    )


def _take(
    limits: list[Limit],
    candidates: Candidates,
    order: np.ndarray,
    size: int | None,
    code: np.ndarray,
    reasons: list[str],
) -> np.ndarray:
    """int64: the first `size` rows of the order that the limits let in.

    Writes the code of each refused row.
    """
    if not limits or not len(order) or size == 0:
        return order[:size]
    taken, verdict = fill(
        limits, {limit.by: getattr(candidates, limit.by)[order] for limit in limits}, size
    )
    for which, limit in enumerate(limits):
        if limit.reason not in reasons:
            reasons.append(limit.reason)
        code[order[np.flatnonzero(verdict == which + 1)]] = reasons.index(limit.reason)
    return order[taken]


def ordered(
    candidates: Candidates, config: SelectConfig, free: np.ndarray, first: int | None = None
) -> np.ndarray:
    """int64: the `first` rows of those that are free (bool [n]), in the strategy's order."""
    first = int(np.count_nonzero(free)) if first is None else first
    if config.strategy == "random":
        return ordered_rows(random_keys(config.seed, np.flatnonzero(free), Purpose.RANDOM), first)
    if config.strategy == "all":
        return np.flatnonzero(free)[:first]
    score = rank_score(candidates, config)
    if config.threshold is not None:
        free = free & (score >= at_least(config.threshold))
    if config.strategy == "gumbel":
        rows = np.flatnonzero(free)
        noisy = np.full(candidates.rows, -np.inf, np.float32)
        noisy[rows] = gumbel_scores(
            score[rows], rows, temperature=config.temperature, seed=config.seed
        )
        score = noisy
    return best_rows(np.where(free, score, np.float32(-np.inf)), first)


def rank_score(candidates: Candidates, config: SelectConfig) -> np.ndarray:
    """float32 [n]: the score, less so many times its spread as the configuration says."""
    assert candidates.logit is not None
    if not config.spread_penalty:
        return candidates.logit
    assert candidates.spread is not None
    return candidates.logit - np.float32(config.spread_penalty) * candidates.spread


def _shortfall(limits: list[Limit], candidates: Candidates, rows: np.ndarray) -> dict[str, int]:
    quota = next((limit for limit in limits if limit.reason == QUOTA), None)
    if quota is None:
        return {}
    names = candidates.sources if quota.by == "source" else candidates.categories
    got = np.bincount(getattr(candidates, quota.by)[rows], minlength=len(names))
    return {
        names[group]: most - int(got[group])
        for group, most in quota.most.items()
        if most > got[group]
    }
