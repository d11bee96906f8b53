"""Stability: would another training have chosen the same samples?

The measure is fitted again (a linear one takes a tenth of a second) with other seeds, other stops,
one robot set less, and without a fold of its negatives. Each ranking is compared with the measure's
own on a seeded subsample of the pool. What a measure does not have (a perplexity has no negatives)
is said in a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emt_core.data.features import Features
from emt_core.errors import EmtError
from emt_core.proximity.base import AnyConfig, Inputs, ScoreOf
from emt_core.proximity.groups import groups_of
from emt_core.proximity.metrics.rank_agreement import compared
from emt_core.proximity.split import TRAIN, seeded_hash, split_of
from emt_core.proximity.stream import feature_blocks
from emt_core.proximity.trust.number import numbered
from emt_core.proximity.trust.refit import (
    IN_STEPS,
    ON_FEATURES,
    FewerSets,
    Shown,
    fit_again,
    scored_again,
)
from emt_core.recipe.proximity import EstimatorConfig, MlpMeasure
from emt_core.recipe.trust import TrustConfig

Table = dict[str, list[Any]]
SEED = "seed"
STEPS = "steps"
FEWER_SETS = "without robot set"
OUT_OF_FOLD = "out of fold"
"""Kinds of repetition, as the table and the pages name them."""

BLOCK_ROWS = 4096

TOO_DEAR = (
    "This score comes from a VLM fine-tuned on robot data, and tuning it again and reading the "
    "whole pool takes too long to do many times here: add a second measure with another seed and "
    "name its score in `compare`."
)
WHY_NOT = {
    "random": "A random score learns nothing, so there is nothing that another training could "
    "change.",
    "clip": "This score is read off a ready CLIP model: nothing is learned from your data, so "
    "nothing can be repeated.",
    "imported": "This score was made elsewhere, so it cannot be made again here: import a second "
    "one, made with another seed or less robot data, and name it in `compare`.",
    "perplexity": TOO_DEAR,
    "delta_perplexity": TOO_DEAR,
    "gradient": "This score comes from a pass of the VLM, forward and back, over the whole pool, "
    "which takes too long to do many times here: add a second measure with another seed and name "
    "its score in `compare`.",
}
"""Kinds that cannot be fitted again here -> why, for the page."""

UNKNOWN = "How to fit a measure of kind {kind} again is not known here."
"""The reason where WHY_NOT has none."""

NOT_IN_STEPS = (
    "This measure is not trained in steps and learns from no negatives: other stops and "
    "out-of-fold scores do not exist for it."
)
NOT_BY_SEED = (
    "Other seeds are left out: they would change only which texts are counted, and counting all of "
    "them takes as long as the measure itself."
)
ONE_SET = (
    "There is one robot set, so none can be left out: whether it stands for your robot the figures "
    "cannot say."
)


@dataclass(frozen=True)
class Repetition:
    """One row of the table: the measure as it is fitted again, and the data it is then given."""

    kind: str
    name: str
    measure: AnyConfig
    inputs: Inputs


def stability(
    measure: AnyConfig,
    inputs: Inputs,
    rows: np.ndarray,
    score: np.ndarray,
    config: TrustConfig,
) -> tuple[dict[str, Any], Table, np.ndarray | None]:
    """(section, table: kind name spearman overlap, out-of-fold scores).

    rows: index rows of the subsample; score: theirs, by the measure in question. Out-of-fold scores
    are float32 [rows of the index]; None where the measure has none.
    """
    section: dict[str, Any] = {
        "title": "Stability",
        "question": "Would another training have chosen the same samples?",
        "numbers": [],
        "notes": [],
    }
    table: Table = {"kind": [], "name": [], "spearman": [], "overlap": []}
    if measure.kind not in (*ON_FEATURES, "dsir"):
        why = WHY_NOT.get(measure.kind, UNKNOWN.format(kind=measure.kind))
        return section | {"skipped": why}, table, None
    x = inputs.features.take(rows).astype(np.float32)
    plan, notes = repetitions(measure, inputs, config)
    section["notes"] = notes

    def add(kind: str, name: str, before: np.ndarray, after: np.ndarray) -> None:
        row = {"kind": kind, "name": name, **compared(before, after, config.top_share)}
        for column, value in row.items():
            table[column].append(value)

    learns_from_pool = isinstance(measure, EstimatorConfig | MlpMeasure)
    folds = config.folds if learns_from_pool else 0
    out = None
    with inputs.progress.track("fitting again", len(plan) + folds, unit="fits") as tracker:
        for again in plan:
            try:
                add(
                    again.kind,
                    again.name,
                    score,
                    scored_again(again.measure, again.inputs, rows, x),
                )
            except EmtError as error:  # knn: too few frames are left
                if again.kind != FEWER_SETS:
                    raise
                notes.append(f"Without {again.name} the measure cannot be fitted: {error.what}.")
            tracker.advance()
        if learns_from_pool and folds:
            fold = folds_of_rows(groups_of(inputs.index), config)
            fitted = []
            for score_of in fold_scores(measure, inputs, fold, config):
                fitted.append(score_of)
                tracker.advance()
            out = out_of_fold(inputs.features, fold, fitted)
            negatives = split_of(measure, inputs.index, inputs.features.ok())[rows] == TRAIN
            if negatives.any():
                add(OUT_OF_FOLD, f"{folds} folds", score[negatives], out[rows][negatives])
    section["numbers"] = _numbers(table, config.top_share)
    return section, table, out


def repetitions(
    measure: AnyConfig, inputs: Inputs, config: TrustConfig
) -> tuple[list[Repetition], list[str]]:
    """(what to fit again, in the table's order; sentences on what this measure does not have).

    The folds are not part of it.
    """
    plan: list[Repetition] = []
    notes: list[str] = []
    if measure.kind in ON_FEATURES:
        for seed in range(measure.seed + 1, measure.seed + 1 + config.seeds):
            reseeded = measure.model_copy(update={"seed": seed})
            plan.append(Repetition(SEED, str(seed), reseeded, inputs))
    else:
        notes.append(NOT_BY_SEED)
    if measure.kind in IN_STEPS:
        for steps in config.stop_points:
            # an accuracy above 1 is never reached: exactly so many steps
            exactly = {"steps": steps, "stop": "accuracy", "stop_accuracy": 1.01}
            stopped = measure.model_copy(update=exactly)
            plan.append(Repetition(STEPS, str(steps), stopped, inputs))
    else:
        notes.append(NOT_IN_STEPS)
    sets = [source.name for source in inputs.index.of_role("robot")]
    if len(sets) == 1:
        notes.append(ONE_SET)
    else:
        for name in sets:
            fewer = replace(inputs, index=FewerSets(inputs.index, (name,)))
            plan.append(Repetition(FEWER_SETS, name, measure, fewer))
    return plan, notes


def folds_of_rows(groups: np.ndarray, config: TrustConfig) -> np.ndarray:
    """int64 [rows]: each row's fold, by seeded hash; rows that share a picture share a fold.

    So a source with a period (every fifth row a duplicate) is mixed over the folds.
    groups: int64 [rows], from groups_of.
    """
    salt = f"trust folds:{config.seed}"
    return (seeded_hash(groups, salt) % np.uint64(config.folds)).astype(np.int64)


def fold_scores(
    measure: AnyConfig, inputs: Inputs, fold: np.ndarray, config: TrustConfig
) -> Iterator[ScoreOf]:
    """One score a fold, learned as if the pool rows of that fold did not exist."""
    ok = inputs.features.ok()
    pool = inputs.index.is_pool()
    for held in range(config.folds):
        shown = Shown(inputs.features.table, ok & ~(pool & (fold == held)))
        yield fit_again(measure, replace(inputs, features=shown))


def out_of_fold(features: Features, fold: np.ndarray, scores: Sequence[ScoreOf]) -> np.ndarray:
    """float32 [rows]: each row by the score that was learned without its fold's pool rows.

    NaN without a vector.
    """
    found = np.full(len(fold), np.nan, np.float32)
    for block in feature_blocks(features, BLOCK_ROWS):
        of_block = fold[block.first : block.first + len(block.ok)]
        for held, score in enumerate(scores):
            members = np.flatnonzero(block.ok & (of_block == held))
            if len(members):
                found[block.first + members] = score(block.x[members])
    return found


FIGURES = {
    SEED: ("another_seed", "another seed"),
    STEPS: ("another_stop", "another stop"),
    FEWER_SETS: ("fewer_sets", "one robot set less"),
    OUT_OF_FOLD: ("out_of_fold", "an estimator that had not met the sample"),
}
"""Kind of repetition -> its figure in figures.yaml, and its name inside a sentence."""


def _numbers(table: Table, top_share: float) -> list[dict[str, Any]]:
    numbers = []
    for kind, (figure, _) in FIGURES.items():
        repeated = zip(table["kind"], table["spearman"], strict=True)
        correlations = [value for name, value in repeated if name == kind]
        if correlations:
            numbers.append(numbered(figure, float(np.min(correlations))))
    if table["overlap"]:
        worst = int(np.argmin(table["overlap"]))
        _, repetition = FIGURES[table["kind"][worst]]
        overlap = table["overlap"][worst]
        numbers.append(numbered("stays", overlap, top_share=top_share, repetition=repetition))
    return numbers
