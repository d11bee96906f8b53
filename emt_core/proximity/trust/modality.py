"""Modality and style audits: which part of a sample tells robot from pool, and does style decide?

On each variant's features the measure is fitted anew, cross-fitted: a row is scored by a fit that
saw neither it nor its episode. Besides, the score *as it is* ranks the restyled samples. A score
that is no function of these features (words, perplexity, a file) cannot be audited: a linear
estimator stands in for it, and the sections say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.proximity.base import AnyConfig, Inputs, ScoreOf
from emt_core.proximity.groups import groups_of
from emt_core.proximity.metrics.rank_agreement import compared, spearman
from emt_core.proximity.metrics.ranking import auroc, balanced_weights
from emt_core.proximity.split import seeded_hash
from emt_core.proximity.trust.audit_sections import (
    NAMES,
    Variants,
    modality_section,
    skipped_sections,
    style_section,
)
from emt_core.proximity.trust.refit import FewerSets, InMemory, fit_again
from emt_core.recipe.trust import TrustConfig

FOLDS = 4
MODALITIES = ("joint", "image", "text")
AUDIT_SPLIT = {"validation_share": 0.25, "test_share": 1e-6}
"""Of a few hundred rows a tenth would stop a training by chance; nothing is tested on the fit's own
test part."""

FEW_EPISODES = "fewer than {least} episodes with a vector among the audited frames"
TOO_FEW = (
    "The audits need a robot set with at least {least} episodes that can be embedded again, and "
    "pool samples."
)


def audits(
    variants: Variants,
    measure: AnyConfig,
    inputs: Inputs,
    config: TrustConfig,
    *,
    shipped: ScoreOf | None,
    notes: list[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(modality section, style section), JSON.

    measure: one of refit.ON_FEATURES. shipped: the score as it is; None where `measure` only stands
    in for it. notes: sentences that both sections start with.
    """
    audited, left_out = audited_rows(variants, inputs.index, config)
    notes = list(notes)
    if left_out:
        too_few = FEW_EPISODES.format(least=FOLDS)
        notes.append(f"Left out of the audits: {', '.join(left_out)}, {too_few}.")
    if not audited.robot.any() or audited.robot.all():
        return skipped_sections(TOO_FEW.format(least=FOLDS))
    fewer = replace(inputs, index=FewerSets(inputs.index, left_out))
    scores: dict[str, dict[int, float]] = {}
    figures: dict[str, Any] = {}
    for name, (rows, x) in variants.vectors.items():
        kept = np.isin(rows, audited.rows)
        at = np.searchsorted(audited.rows, rows[kept])
        try:
            score = cross_fitted(rows[kept], x[kept], audited.fold[at], measure, fewer)
        except EmtError as error:
            if name == "joint":
                return skipped_sections(f"The audits cannot be made: {error.what}.")
            notes.append(f"{NAMES[name].capitalize()} is left out: {error.what}.")
            continue
        robot = audited.robot[at]
        weights = balanced_weights(robot, audited.group[at])
        area = auroc(robot, score, weights)
        figures[name] = {"name": NAMES[name], "auroc": area, "rows": len(at)}
        scores[name] = _by_row(rows[kept][~robot], score[~robot])
    for name in figures:
        figures[name] |= _on_common_rows(scores["joint"], scores[name], config.top_share)
    if shipped is not None:
        said = {
            name: _as_it_is(inputs.index, variants, shipped, name)
            for name in figures
            if name not in ("image", "text")
        }
        for name, by_row in said.items():
            moved = _on_common_rows(said["joint"], by_row, config.top_share)
            figures[name] |= {f"fixed_{key}": value for key, value in moved.items()}
    modality = {name: figures[name] for name in MODALITIES if name in figures}
    style = {name: figures[name] for name in figures if name not in MODALITIES}
    matrix = _correlations([scores[name] for name in modality])
    why_not = [why for name, why in variants.left_out.items() if name in MODALITIES]
    return (
        modality_section(modality, matrix, config.top_share, [*notes, *why_not]),
        style_section(
            style,
            modality["joint"],
            config.top_share,
            [*notes, *_size_note(variants)],
            variants.side,
        ),
    )


@dataclass(frozen=True)
class Audited:
    """The rows that are audited, each array [n]."""

    rows: np.ndarray
    """int64 index rows, rising."""
    robot: np.ndarray
    """bool."""
    group: np.ndarray
    """int64: 0 for the pool, else 1 + place of the robot set in the index's sources."""
    fold: np.ndarray


def audited_rows(
    variants: Variants, index: Index, config: TrustConfig
) -> tuple[Audited, list[str]]:
    """(rows of the variants, names of the robot sets left out).

    A set with fewer than FOLDS episodes cannot be cross-fitted.
    """
    rows = np.unique(np.concatenate([rows for rows, _ in variants.vectors.values()]))
    robot = ~index.is_pool()[rows]
    group = np.where(robot, 1 + index.codes()[rows].astype(np.int64), 0)
    unit = groups_of(index)[rows]
    present = np.unique(group[robot])
    small = [g for g in present if len(np.unique(unit[group == g])) < FOLDS]
    name_of = {g: index.sources[g - 1].name for g in present}
    absent = {source.name for source in index.of_role("robot")} - set(name_of.values())
    kept = ~np.isin(group, small)
    fold = even_folds(group[kept], unit[kept], FOLDS, f"trust:{config.seed}")
    audited = Audited(rows[kept], robot[kept], group[kept], fold)
    return audited, sorted(absent | {name_of[g] for g in small})


def cross_fitted(
    rows: np.ndarray, x: np.ndarray, fold: np.ndarray, measure: AnyConfig, inputs: Inputs
) -> np.ndarray:
    """float32 [n]: each row's score by the measure fitted without that row's fold.

    rows: int64 index rows, rising; x: float32 [n, dim]; fold: int [n]. Raises EmtError where the
    other folds leave too little to fit on.
    """
    measure = measure.model_copy(update=AUDIT_SPLIT)
    found = np.full(len(rows), np.nan, np.float32)
    for held in np.unique(fold):
        shown = np.zeros(inputs.index.rows, bool)
        shown[rows[fold != held]] = True
        seen = InMemory(inputs.features.table, shown, rows, x)
        found[fold == held] = fit_again(measure, replace(inputs, features=seen))(x[fold == held])
    return found


def even_folds(group: np.ndarray, unit: np.ndarray, folds: int, salt: str) -> np.ndarray:
    """int64 [n]: a fold for each row; rows of one group and unit (an episode, a picture) share it.

    The units of each group are spread evenly over the folds, in seeded order.
    """
    keys, of_row = np.unique(np.stack([group, unit]), axis=1, return_inverse=True)
    place = np.empty(keys.shape[1], np.int64)
    place[np.lexsort((seeded_hash(keys[1], salt), keys[0]))] = np.arange(keys.shape[1])
    return (place % folds)[of_row.reshape(-1)]


def _correlations(scores: list[dict[int, float]]) -> list[list[float]]:
    """Rank correlations of all pairs, over the rows that all of them have."""
    common = sorted(set.intersection(*(set(by_row) for by_row in scores)))
    columns = [np.array([by_row[row] for row in common]) for by_row in scores]
    return [[spearman(a, b) for b in columns] for a in columns]


def _on_common_rows(
    before: Mapping[int, float], after: Mapping[int, float], top_share: float
) -> dict[str, float]:
    """Rank correlation, and overlap of the best share, over the rows that both have."""
    both = sorted(set(before) & set(after))
    a = np.array([before[row] for row in both])
    b = np.array([after[row] for row in both])
    return compared(a, b, top_share)


def _as_it_is(index: Index, variants: Variants, shipped: ScoreOf, name: str) -> dict[int, float]:
    """Pool row -> what the score, as it is, says of this variant of it."""
    rows, x = variants.vectors[name]
    pool = index.is_pool()[rows]
    return _by_row(rows[pool], shipped(x[pool]))


def _by_row(rows: np.ndarray, score: np.ndarray) -> dict[int, float]:
    return dict(zip(rows.tolist(), score.tolist(), strict=True))


def _size_note(variants: Variants) -> list[str]:
    if variants.own_side is None or variants.side < variants.own_side:
        return []
    return [
        f"One size says nothing here: the encoder scales every image to {variants.own_side} px "
        f"anyway, and the audit to {variants.side} px. Set `side` below {variants.own_side}."
    ]
