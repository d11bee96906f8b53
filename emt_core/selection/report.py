"""What a selection did: composition, diversity, distance to the robots, scores; before and after.

"Before" is what could have been selected (`eligible`), "after" what was. Diversity and MMD are
measured as in every other stage (proximity/reference.py): there, "before" is the pool that any
selection is compared with, whatever this one's score, flags and settings keep out or let in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from emt_core.proximity.reference import Reference
from emt_core.recipe.selection import SelectConfig
from emt_core.selection.candidates import Candidates, could_be_selected
from emt_core.selection.category import CATEGORIES, side_of
from emt_core.selection.decide import Decision

UNMEASURED = {"diversity": {}, "mmd2_to_robot": {}, "errors": {}, "sigma": None, "measured_on": {}}
"""What the report says of diversity and distance where nothing is embedded."""

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def selection_report(
    decision: Decision, candidates: Candidates, reference: Reference | None, config: SelectConfig
) -> dict[str, Any]:
    """JSON (see the fields below). reference None: there are no features to measure on."""
    before = np.flatnonzero(could_be_selected(decision.code, decision.reasons))
    after = decision.rows
    pool = np.flatnonzero(np.asarray(candidates.pool)[candidates.source])
    groups = {"pool": pool, "eligible": before, "selected": after}
    composition = {name: composition_of(rows, candidates) for name, rows in groups.items()}
    return {
        "asked": decision.asked,
        "eligible": decision.eligible,
        "selected": len(after),
        "cut_logit": cut_logit(after, candidates, config),
        "reasons": decision.counts(),
        "shortfall": decision.shortfall,
        "composition": composition,
        "embodied_share": {
            "before": embodied_share(composition["eligible"]["category"]),
            "after": embodied_share(composition["selected"]["category"]),
        },
        **(
            reference.measured({"before": reference.pool, "after": np.sort(after)})
            if reference
            else UNMEASURED
        ),
        "scores": _scores(decision, before, candidates),
    }


def cut_logit(rows: np.ndarray, candidates: Candidates, config: SelectConfig) -> float | None:
    """The lowest selected score; None where the score alone decides nothing: no cut there."""
    if candidates.logit is None or config.strategy != "top":
        return None
    if config.random_share or config.spread_penalty:
        return None
    return float(candidates.logit[rows[-1]])


def composition_of(rows: np.ndarray, candidates: Candidates) -> dict[str, dict[str, int]]:
    """Rows by source, by category and by side; groups without any row are left out, and all
    categories where the recipe names none."""
    found: dict[str, dict[str, int]] = {"source": {}, "category": {}}
    for by, names in (("source", candidates.sources), ("category", candidates.categories)):
        codes = getattr(candidates, by)
        if codes is None:
            continue
        counts = np.bincount(codes[rows], minlength=len(names))
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


def embodied_share(by_category: Mapping[str, int]) -> float | None:
    """The share of these rows whose category is embodied-oriented; None without rows."""
    total = sum(by_category.values())
    embodied = sum(n for name, n in by_category.items() if side_in_pool(name) == "embodied")
    return float(embodied / total) if total else None


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
