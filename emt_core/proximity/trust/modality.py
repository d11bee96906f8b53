"""Modality and style audits: which part of a sample tells robot from pool, and does the ranking survive without style?

On each variant's features the measure is fitted anew, cross-fitted: a row is scored by a fit that saw neither it nor
its episode. On top of that the score *as it is* ranks the restyled samples. A score that is no function of these
features (words, perplexity, a file) is not audited; a linear estimator stands in, and the sections say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs
from emt_core.proximity.metrics.rank_agreement import compared, spearman
from emt_core.proximity.metrics.ranking import auroc, balanced_weights
from emt_core.proximity.split import seeded_hash
from emt_core.proximity.trust.audit_sections import (
    NAMES,
    modality_section,
    skipped_sections,
    style_section,
)
from emt_core.proximity.trust.refit import FewerSets, InMemory, Measure, ScoreOf, fit_again
from emt_core.proximity.trust.variants import Variants
from emt_core.recipe.trust import TrustConfig

FOLDS = 4
MODALITIES = ("joint", "image", "text")
AUDIT_SPLIT = {"validation_share": 0.25, "test_share": 1e-6}
"""Of a few hundred rows a tenth would stop a training by chance; nothing is tested on the fit's own test part."""

FEW_EPISODES = "fewer than {least} episodes with a vector among the audited frames"
TOO_FEW = "The audits need a robot set with at least {least} episodes that can be embedded again, and pool samples."


def cross_fitted(
    rows: np.ndarray, x: np.ndarray, fold: np.ndarray, measure: Measure, inputs: Inputs
) -> np.ndarray:
    """float32 [n]: each row's score by the measure fitted without that row's fold.

    rows: int64 index rows, rising; x: float32 [n, dim]; fold: int [n]. Raises EmtError where what is left of the other
    folds is too little to fit on.
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
    """int64 [n]: a fold a row. Rows of one group and unit (a robot set's episode) stay together; the units of each
    group are spread evenly, in seeded order."""
    keys, of_row = np.unique(np.stack([group, unit]), axis=1, return_inverse=True)
    place = np.empty(keys.shape[1], np.int64)
    place[np.lexsort((seeded_hash(keys[1], salt), keys[0]))] = np.arange(keys.shape[1])
    return (place % folds)[of_row.reshape(-1)]


def audits(
    variants: Variants,
    measure: Measure,
    inputs: Inputs,
    config: TrustConfig,
    *,
    shipped: ScoreOf | None,
    notes: list[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(modality section, style section).

    measure: one of refit.ON_FEATURES; shipped: the score as it is, None where `measure` only stands in for it; notes:
    sentences that both sections start with.
    """
    index = inputs.index
    notes = list(notes)
    rows = np.unique(np.concatenate([rows for rows, _ in variants.vectors.values()]))
    robot = ~index.is_pool()[rows]
    group = np.where(robot, 1 + index.codes()[rows].astype(np.int64), 0)
    episode = index.table.take(rows, ["episode"]).column(0).to_numpy() if len(rows) else rows
    sources = index.sources
    small = [g for g in np.unique(group[robot]) if len(np.unique(episode[group == g])) < FOLDS]
    gone = {s.name for s in index.of_role("robot")} - {sources[g - 1].name for g in group[robot]}
    names = sorted(gone | {sources[g - 1].name for g in small})
    if names:
        notes.append(
            f"Left out of the audits: {', '.join(names)}, {FEW_EPISODES.format(least=FOLDS)}."
        )
    kept = ~np.isin(group, small)
    rows, robot, group, episode = rows[kept], robot[kept], group[kept], episode[kept]
    if not robot.any() or robot.all():
        return skipped_sections(TOO_FEW.format(least=FOLDS))
    inputs = replace(inputs, index=FewerSets(index, names))
    fold = even_folds(group, np.where(robot, episode, rows), FOLDS, f"trust:{config.seed}")
    scores: dict[str, dict[int, float]] = {}
    facts: dict[str, Any] = {}
    for name, (mine, x) in variants.vectors.items():
        there = np.isin(mine, rows)
        at = np.searchsorted(rows, mine[there])
        try:
            found = cross_fitted(rows[at], x[there], fold[at], measure, inputs)
        except EmtError as error:
            if name == "joint":
                return skipped_sections(f"The audits cannot be made: {error.what}.")
            notes.append(f"{NAMES[name].capitalize()} is left out: {error.what}.")
            continue
        weights = balanced_weights(robot[at], group[at])
        facts[name] = {
            "name": NAMES[name],
            "auroc": auroc(robot[at], found, weights),
            "rows": len(at),
        }
        pool = ~robot[at]
        scores[name] = dict(zip(rows[at][pool].tolist(), found[pool].tolist(), strict=True))
    for name in facts:
        facts[name] |= _on_common_rows(scores["joint"], scores[name], config.top_share)
    if shipped is not None:
        said = {
            name: _as_it_is(index, variants, shipped, name)
            for name in facts
            if name not in ("image", "text")
        }
        for name, mine in said.items():
            moved = _on_common_rows(said["joint"], mine, config.top_share)
            facts[name] |= {f"fixed_{key}": value for key, value in moved.items()}
    between = [name for name in MODALITIES if name in facts]
    common = sorted(set.intersection(*(set(scores[name]) for name in between)))
    columns = [np.array([scores[name][row] for row in common]) for name in between]
    matrix = [[spearman(a, b) for b in columns] for a in columns]
    modality = {name: facts[name] for name in between}
    style = {name: facts[name] for name in facts if name not in MODALITIES}
    left_out = [
        *notes,
        *(sentence for name, sentence in variants.left_out.items() if name in MODALITIES),
    ]
    return (
        modality_section(modality, matrix, config.top_share, left_out),
        style_section(
            style,
            modality["joint"],
            config.top_share,
            [*notes, *_size_note(variants)],
            variants.side,
        ),
    )


def _on_common_rows(
    before: Mapping[int, float], after: Mapping[int, float], top_share: float
) -> dict[str, float]:
    """Rank correlation, and overlap of the best share, over the rows that both have."""
    both = sorted(set(before) & set(after))
    a, b = np.array([before[row] for row in both]), np.array([after[row] for row in both])
    return compared(a, b, top_share)


def _as_it_is(index: Index, variants: Variants, shipped: ScoreOf, name: str) -> dict[int, float]:
    """Pool row -> what the score, as it is, says of this variant of it."""
    rows, x = variants.vectors[name]
    mine = index.is_pool()[rows]
    return dict(zip(rows[mine].tolist(), shipped(x[mine]).tolist(), strict=True))


def _size_note(variants: Variants) -> list[str]:
    if variants.own_side is None or variants.side < variants.own_side:
        return []
    return [
        f"One size says nothing here: the encoder scales every image to {variants.own_side} px anyway, and the audit "
        f"to {variants.side} px. Set `side` below {variants.own_side}."
    ]
