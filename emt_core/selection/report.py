"""What a selection did: composition, diversity, distance to the robots, scores; before and after.

"Before" is what could have been selected (`eligible`), "after" what was. Diversity and MMD are
measured on seeded samples without self pairs (the sweep's formulas), so that sets of different size
compare.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emt_core.data.draws import Purpose, ordered_rows, random_keys
from emt_core.data.features import Features
from emt_core.errors import EmtError
from emt_core.proximity.metrics.diversity import diversity
from emt_core.proximity.metrics.mmd import group_means, median_sigma, mixture_mmd2
from emt_core.recipe.selection import SelectConfig
from emt_core.selection.candidates import Candidates
from emt_core.selection.category import CATEGORIES, side_of
from emt_core.selection.decide import Decision

SAMPLE_ROWS = 2000
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def selection_report(
    decision: Decision, candidates: Candidates, features: Features, config: SelectConfig
) -> dict[str, Any]:
    """JSON (see the fields below)."""
    before = eligible_rows(decision)
    after = decision.rows
    pool = np.flatnonzero(np.asarray(candidates.pool)[candidates.source])
    groups = {"pool": pool, "eligible": before, "selected": after}
    composition = {name: composition_of(rows, candidates) for name, rows in groups.items()}
    gap = _gap(before, after, candidates, features, config.seed)
    return {
        "asked": decision.asked,
        "eligible": decision.eligible,
        "selected": len(after),
        "cut_logit": cut_logit(after, candidates, config),
        "reasons": decision.counts(),
        "shortfall": decision.shortfall,
        "composition": composition,
        "embodied_share": {
            "before": share_of_side(composition["eligible"]),
            "after": share_of_side(composition["selected"]),
        },
        **gap,
        "scores": _scores(decision, before, candidates),
    }


def cut_logit(rows: np.ndarray, candidates: Candidates, config: SelectConfig) -> float | None:
    """The lowest selected score; None where the score alone decides nothing: no cut there."""
    if candidates.logit is None or config.strategy != "top":
        return None
    if config.random_share or config.spread_penalty:
        return None
    return float(candidates.logit[rows[-1]])


def eligible_rows(decision: Decision) -> np.ndarray:
    """int64, ascending: selected rows, and those that only a cut, cap, quota or draw kept out."""
    kept_out_by = "below_cut not_drawn source_cap category_cap quota cluster_cap near_duplicate"
    settled = {"", *kept_out_by.split()}
    could = np.array([reason in settled for reason in decision.reasons])
    return np.flatnonzero(could[decision.code])


def composition_of(rows: np.ndarray, candidates: Candidates) -> dict[str, dict[str, int]]:
    """Rows by source, by category and by side; groups without any row are left out."""
    found: dict[str, dict[str, int]] = {}
    for by, names in (("source", candidates.sources), ("category", candidates.categories)):
        counts = np.bincount(getattr(candidates, by)[rows], minlength=len(names))
        found[by] = {name: int(count) for name, count in zip(names, counts, strict=True) if count}
    found["side"] = {}
    for name, count in found["category"].items():
        found["side"][side_in_pool(name)] = found["side"].get(side_in_pool(name), 0) + count
    return found


def side_in_pool(category: str) -> str:
    """`embodied`, `reading` or `neither`.

    A pool question about a robot counts as embodied, as Robo2VLM does in the paper (method section
    6). Public pools do not say on which side they are, so what a row asks for decides.
    """
    if category == "robot":
        return "embodied"
    return side_of(category) if category in CATEGORIES else "neither"


def share_of_side(composition: dict[str, dict[str, int]]) -> float | None:
    total = sum(composition["side"].values())
    return composition["side"].get("embodied", 0) / total if total else None


def _gap(
    before: np.ndarray, after: np.ndarray, candidates: Candidates, features: Features, seed: int
) -> dict[str, Any]:
    """Diversity before and after, and unbiased squared MMD to each robot set and to all of them.

    All of them: in equal parts.
    """

    def sample(rows: np.ndarray, count: int = SAMPLE_ROWS) -> np.ndarray:
        drawn = ordered_rows(random_keys(seed, rows, Purpose.REPORT), count)
        return features.take(np.sort(drawn)).astype(np.float32)

    sets = {"before": sample(before), "after": sample(after)}
    share = max(SAMPLE_ROWS // max(int((~candidates.pool).sum()), 1), 2)
    robots = {}
    for place, name in enumerate(candidates.sources):
        if not candidates.pool[place]:
            rows = np.flatnonzero(candidates.source == place)
            if candidates.status is not None:
                rows = rows[candidates.status[rows] == candidates.statuses.index("")]
            if len(rows) >= 2:
                robots[name] = sample(rows, share)
    counts = {name: len(rows) for name, rows in sets.items()}
    gap: dict[str, Any] = {
        "diversity": {name: _number(diversity(rows)) for name, rows in sets.items()},
        "measured_on": {**counts, "robot": sum(map(len, robots.values()))},
        "mmd2_to_robot": {},
        "sigma": None,
    }
    if not robots or min(counts.values()) < 2:
        return gap
    try:
        sigma = median_sigma([sets["before"], *robots.values()], seed)
    except EmtError:  # all features are equal: there is no scale to measure on
        return gap
    means = group_means([*sets.values(), *robots.values()], sigma, unbiased=True)
    one = np.eye(len(means))
    targets = {"all": one[2:].mean(axis=0), **dict(zip(robots, one[2:], strict=True))}
    to_robot = {
        target: {name: mixture_mmd2(means, one[place], mixture) for place, name in enumerate(sets)}
        for target, mixture in targets.items()
    }
    return {**gap, "mmd2_to_robot": to_robot, "sigma": sigma, "mmd": "unbiased"}


def _scores(decision: Decision, before: np.ndarray, candidates: Candidates) -> dict[str, Any]:
    """Quantiles of the logits of selected, left out (eligible but not taken) and robot rows."""
    if candidates.logit is None:
        return {}
    robot = np.flatnonzero(~np.asarray(candidates.pool)[candidates.source])
    groups = {
        "selected": decision.rows,
        "left_out": before[decision.code[before] != 0],
        "robot": robot,
    }
    scores = {}
    for name, rows in groups.items():
        logit = candidates.logit[rows]
        logit = logit[np.isfinite(logit)].astype(np.float64)
        cuts = np.quantile(logit, QUANTILES) if len(logit) else []
        scores[name] = {
            "rows": len(logit),
            "mean": float(logit.mean()) if len(logit) else None,
            "quantiles": {f"{q:g}": float(cut) for q, cut in zip(QUANTILES, cuts, strict=False)},
        }
    return scores


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
