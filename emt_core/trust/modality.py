"""Modality and style audits: which part of a sample tells robot from pool, and does the ranking survive without style?

Each variant's features get an estimator of their own, cross-fitted: a row is scored by one that saw neither it nor its
episode. On top of that the *shipped* estimator scores the restyled samples as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from emt_core.index import Index
from emt_core.metrics.rank_agreement import overlap_at, spearman
from emt_core.metrics.ranking import auroc, balanced_weights
from emt_core.proximity.learned import Examples, scaling, train
from emt_core.proximity.split import seeded_hash
from emt_core.stage_config import EstimatorConfig
from emt_core.trust.config import TrustConfig
from emt_core.trust.number import numbered

FOLDS = 4
MODALITIES = ("joint", "image", "text")
NAMES = {
    "joint": "image and text",
    "image": "image only",
    "text": "text only",
    "one_size": "one size",
    "jpeg": "strong JPEG",
    "grey": "greyscale",
}


def cross_fitted(
    x: np.ndarray, robot: np.ndarray, stratum: np.ndarray, fold: np.ndarray, config: EstimatorConfig
) -> np.ndarray:
    """float32 [n]: each row's logit from an estimator trained on the other folds (one of them stops the training)."""
    found = np.full(len(x), np.nan, np.float32)
    for held in range(FOLDS):
        stop = (held + 1) % FOLDS
        inside = (fold != held) & (fold != stop)
        if min(_classes(robot[inside]), _classes(robot[fold == stop])) < 2:
            continue
        batches = _balanced(x[inside].astype(np.float64), robot[inside], stratum[inside], config)
        part = fold == stop
        stopping = Examples(
            x=x[part].astype(np.float64), robot=robot[part], stratum=stratum[part], rows=np.flatnonzero(part)
        )
        weights = balanced_weights(robot[inside], stratum[inside])
        mean, scale = scaling(x[inside].astype(np.float64), weights, standardize=config.standardize)
        estimator = train(config, batches, stopping, mean=mean, scale=scale)
        found[fold == held] = estimator.logits(x[fold == held])
    return found


def _classes(robot: np.ndarray) -> int:
    return len(np.unique(robot))


def _balanced(x: np.ndarray, robot: np.ndarray, stratum: np.ndarray, config: EstimatorConfig):
    """Half robot (each set equally likely), half pool, as the estimator draws them."""
    rng = np.random.default_rng([config.seed, 3])
    sets = [np.flatnonzero(stratum == place) for place in np.unique(stratum[robot])]
    pool = np.flatnonzero(~robot)
    half = config.batch_size // 2
    for _ in range(config.max_steps):
        which = rng.integers(len(sets), size=half)
        place = rng.random(half)
        near = np.array([sets[w][int(p * len(sets[w]))] for w, p in zip(which, place, strict=True)])
        yield x[np.concatenate([near, pool[rng.integers(len(pool), size=config.batch_size - half)]])]


def audits(
    index: Index,
    variants: Mapping[str, tuple[np.ndarray, np.ndarray]],
    estimator: EstimatorConfig,
    config: TrustConfig,
    shipped: tuple[np.ndarray, float] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(modality section, style section). variants: from `embed_variants`; shipped: weight and bias of the estimator."""
    logits, facts = {}, {}
    for name, (rows, x) in variants.items():
        robot = ~index.is_pool()[rows]
        stratum = np.where(robot, 1 + index.codes()[rows].astype(np.int64), 0)
        episode = index.table.take(rows, ["episode"]).column(0).to_numpy()
        unit = np.where(robot, episode + 1_000_003 * stratum, rows)  # frames of one episode stay together
        fold = (seeded_hash(unit, f"trust:{config.seed}") % np.uint64(FOLDS)).astype(np.int64)
        found = cross_fitted(x, robot, stratum, fold, estimator)
        there = np.isfinite(found)
        logits[name] = dict(zip(rows[there & ~robot].tolist(), found[there & ~robot].tolist(), strict=True))
        facts[name] = {
            "name": NAMES[name],
            "auroc": auroc(robot[there], found[there], balanced_weights(robot[there], stratum[there])),
            "rows": len(rows),
        }
    for name, mine in logits.items():
        both = sorted(set(mine) & set(logits["joint"]))
        a, b = np.array([logits["joint"][r] for r in both]), np.array([mine[r] for r in both])
        facts[name]["spearman"] = spearman(a, b)
        facts[name]["overlap"] = overlap_at(a, b, max(1, round(config.top_share * len(both))))
    if shipped is not None:
        _fixed(index, variants, facts, shipped, config)
    modality = {name: facts[name] for name in MODALITIES if name in facts}
    style = {name: facts[name] for name in facts if name not in MODALITIES}
    return _modality_section(modality), _style_section(style)


def _fixed(
    index: Index,
    variants: Mapping[str, tuple[np.ndarray, np.ndarray]],
    facts: dict[str, Any],
    shipped: tuple[np.ndarray, float],
    config: TrustConfig,
) -> None:
    """What the estimator, as it is, says of the restyled pool samples."""
    weight, bias = shipped
    scored = {
        name: dict(zip(rows.tolist(), (x.astype(np.float64) @ weight + bias).tolist(), strict=True))
        for name, (rows, x) in variants.items()
        if name not in ("image", "text")
    }
    pool = index.is_pool()
    for name, mine in scored.items():
        both = [row for row in sorted(set(mine) & set(scored["joint"])) if pool[row]]
        a, b = np.array([scored["joint"][r] for r in both]), np.array([mine[r] for r in both])
        facts[name]["fixed_spearman"] = spearman(a, b)
        facts[name]["fixed_overlap"] = overlap_at(a, b, max(1, round(config.top_share * len(both))))
        facts[name]["fixed_shift"] = float((b - a).mean())


def _modality_section(facts: dict[str, Any]) -> dict[str, Any]:
    numbers = []
    if "text" in facts:
        numbers.append(
            numbered(
                "AUROC of the text alone",
                facts["text"]["auroc"],
                "0.5 means that words tell nothing; near 1 the wording alone gives robots away (instructions sound "
                "like "
                "nothing in the pool), so compare with robot_text: none.",
                good=0.75,
                bad=0.97,
            )
        )
    if "image" in facts:
        numbers.append(
            numbered(
                "AUROC of the image alone",
                facts["image"]["auroc"],
                "Pictures should tell robots apart, yet not perfectly; near 1 together with a style audit that "
                "moves the "
                "ranking, the estimator reads how pictures were made.",
                good=0.95,
                bad=0.999,
            )
        )
        numbers.append(
            numbered(
                "Selection that the image alone would keep",
                facts["image"]["overlap"],
                "Share of the joint selection that an image-only estimator would take as well; in the middle both "
                "parts "
                "count, near 1 the conversation plays no role: give the encoder the text, or pool its last token.",
                form="share",
            )
        )
    return {
        "title": "Modality audit",
        "question": "Is it the picture, the words, or both that make a sample near?",
        "numbers": numbers,
        "variants": facts,
    }


def _style_section(facts: dict[str, Any]) -> dict[str, Any]:
    moved = [f.get("fixed_spearman", f["spearman"]) for f in facts.values()]
    kept = [f.get("fixed_overlap", f["overlap"]) for f in facts.values()]
    numbers = [
        numbered(
            "Ranking that survives restyling",
            min(moved) if moved else None,
            "Lowest rank correlation of the pool before and after all images were brought to one size, strong JPEG "
            "or grey; "
            "above 0.9 style decides little, and below 0.7 restyle before you embed.",
            good=0.9,
            bad=0.7,
        ),
        numbered(
            "Selection that survives restyling",
            min(kept) if kept else None,
            "Lowest share of the best samples that stay among the best; above 85 % is good, and below 60 % the cut "
            "depends on "
            "how pictures were stored.",
            good=0.85,
            bad=0.6,
            form="share",
        ),
    ]
    return {
        "title": "Style audit",
        "question": "How far does the ranking move when only the looks of the images change?",
        "numbers": numbers,
        "variants": facts,
    }
