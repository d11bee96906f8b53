"""Planted truth: how well a score finds samples whose nearness in content is known beforehand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from emt_core.data.index import Index
from emt_core.proximity.metrics.rank_agreement import best, share_of
from emt_core.proximity.metrics.ranking import auroc
from emt_core.proximity.trust.number import numbered
from emt_core.recipe.trust import TrustConfig

UNKNOWN = -1
FAR = 0
NEAR = 1


def planted_truth(
    index: Index, rows: np.ndarray, config: TrustConfig
) -> tuple[np.ndarray, np.ndarray]:
    """(int8 [n] of NEAR, FAR, UNKNOWN; object [n] style or "") of these rows.

    By `near_ids` where the configuration has any, else by the samples' meta.
    """
    truth = np.full(len(rows), UNKNOWN, np.int8)
    style = np.full(len(rows), "", object)
    metas = index.table.take(rows, ["meta"]).column(0).to_pylist()
    for place, text in enumerate(metas):
        meta = json.loads(text) if text else {}
        if config.planted_meta in meta:
            truth[place] = NEAR if meta[config.planted_meta] == config.planted_near else FAR
        style[place] = str(meta.get(config.planted_style, ""))
    if config.near_ids:
        truth = np.isin(rows, index.rows_of(config.near_ids)).astype(np.int8)
    return truth, style


def planted(
    scores: Mapping[str, np.ndarray], truth: np.ndarray, style: np.ndarray, *, top_share: float
) -> dict[str, Any]:
    """JSON: AUROC and precision of the best share for each score, overall and within each style.

    scores: name -> float [n], the score in question first; rows of unknown truth are left out.
    """
    section: dict[str, Any] = {
        "title": "Planted truth",
        "question": "Where we know which samples are near in content, does the score find them, "
        "and not just their looks?",
        "numbers": [],
    }
    known = truth != UNKNOWN
    near = truth[known] == NEAR
    if not near.any() or near.all():
        return section | {
            "skipped": "No sample says which content is near: set planted_meta and planted_near, "
            "or near_ids, to use it."
        }
    style = style[known]
    both_in = [name for name in np.unique(style) if 0 < near[style == name].mean() < 1]
    styles = [str(name) for name in both_in if name]
    section |= {
        "base_rate": float(near.mean()),
        "rows": int(known.sum()),
        "styles": styles,
        "measures": {},
    }
    for name, values in scores.items():
        value = values[known]
        section["measures"][name] = {
            **_ranking(value, near, top_share),
            "within": {s: _ranking(value[style == s], near[style == s], top_share) for s in styles},
            "auroc_style": auroc(style == styles[-1], value) if len(styles) == 2 else None,
        }
    first = section["measures"][next(iter(scores))]
    within = [in_style["auroc"] for in_style in first["within"].values()]
    chance = float(near.mean())
    # where near samples are rare, 1 is out of reach
    most = min(1.0, near.sum() / share_of(top_share, len(near)))
    section["numbers"] = [
        numbered(
            "planted_precision",
            first["precision"],
            top_share=top_share,
            chance=chance,
            most=most,
            good=chance + 0.5 * (most - chance),
            bad=chance + 0.1 * (most - chance),
        ),
        numbered("planted_auroc", first["auroc"]),
    ]
    if within:
        section["numbers"].append(numbered("planted_within", min(within)))
    if first["auroc_style"] is not None:
        other, style_name = styles
        section["numbers"].append(
            numbered("planted_style", first["auroc_style"], style=style_name, other=other)
        )
    return section


def _ranking(values: np.ndarray, near: np.ndarray, top_share: float) -> dict[str, Any]:
    return {
        "auroc": auroc(near, values),
        "precision": float(near[best(values, share_of(top_share, len(values)))].mean()),
        "base_rate": float(near.mean()),
        "rows": len(values),
    }
