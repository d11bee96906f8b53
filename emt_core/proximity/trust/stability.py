"""Stability: would another seed, another stop, one robot set less, or other negatives have chosen the same samples?

The measure is fitted again and again (a linear one in a tenth of a second); rankings are compared with its own on a
seeded subsample of the pool. What a measure does not have (a perplexity has no negatives) is said, not made up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emt_core.data.features import Features
from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs
from emt_core.proximity.metrics.rank_agreement import compared
from emt_core.proximity.split import TRAIN, seeded_hash, split_of
from emt_core.proximity.stream import feature_blocks
from emt_core.proximity.trust.number import numbered
from emt_core.proximity.trust.refit import (
    IN_STEPS,
    ON_FEATURES,
    FewerSets,
    Measure,
    ScoreOf,
    Shown,
    fit_again,
    scored_again,
)
from emt_core.recipe.proximity import EstimatorConfig, MlpMeasure
from emt_core.recipe.trust import TrustConfig

Table = dict[str, list[Any]]
WITHOUT_A_SET = "without robot set"
BLOCK_ROWS = 4096

WHY_NOT = {
    "random": "A random score learns nothing, so there is nothing that another training could change.",
    "clip": "This score is read off a ready CLIP model: nothing is learned from your data, so nothing can be repeated.",
    "imported": "This score was made elsewhere, so it cannot be made again here: import a second one, made with "
    "another seed or less robot data, and name it in `compare`.",
    "perplexity": "This score comes from a VLM fine-tuned on robot data, and tuning it again and reading the whole "
    "pool takes too long to do many times here: add a second measure with another seed and name its score in "
    "`compare`.",
}
WHY_NOT["delta_perplexity"] = WHY_NOT["perplexity"]

NOT_IN_STEPS = (
    "This measure is not trained in steps and learns from no negatives: other stops and out-of-fold scores do not "
    "exist for it."
)
NOT_BY_SEED = (
    "Other seeds are left out: they would change only which texts are counted, and counting all of them takes as long "
    "as the measure itself."
)
ONE_SET = "There is one robot set, so none can be left out: whether it stands for your robot the figures cannot say."


@dataclass(frozen=True)
class Repetition:
    """One row of the table: the measure as it is fitted again, and the data it is then given."""

    kind: str
    name: str
    measure: Measure
    inputs: Inputs


def repetitions(
    measure: Measure, inputs: Inputs, config: TrustConfig
) -> tuple[list[Repetition], list[str]]:
    """(what to fit again, in the table's order; sentences on what this measure does not have). Folds come after."""
    plan, notes = list[Repetition](), list[str]()
    if measure.kind in ON_FEATURES:
        for seed in range(measure.seed + 1, measure.seed + 1 + config.seeds):
            plan.append(
                Repetition("seed", str(seed), measure.model_copy(update={"seed": seed}), inputs)
            )
    else:
        notes.append(NOT_BY_SEED)
    if measure.kind in IN_STEPS:
        for steps in config.stop_points:
            stopped = measure.model_copy(
                update={"steps": steps, "stop_accuracy": 1.01}
            )  # whatever the accuracy
            plan.append(Repetition("steps", str(steps), stopped, inputs))
    else:
        notes.append(NOT_IN_STEPS)
    sets = [source.name for source in inputs.index.of_role("robot")]
    if len(sets) == 1:
        notes.append(ONE_SET)
    else:
        for name in sets:
            fewer = replace(inputs, index=FewerSets(inputs.index, (name,)))
            plan.append(Repetition(WITHOUT_A_SET, name, measure, fewer))
    return plan, notes


def stability(
    measure: Measure,
    inputs: Inputs,
    rows: np.ndarray,
    score: np.ndarray,
    config: TrustConfig,
) -> tuple[dict[str, Any], Table, np.ndarray | None]:
    """(section, table: kind name spearman overlap, out-of-fold scores float32 [rows of the index] or None).

    rows: index rows of the subsample; score: theirs, by the measure in question.
    """
    section: dict[str, Any] = {
        "title": "Stability",
        "question": "Would another training have chosen the same samples?",
        "numbers": [],
        "notes": [],
    }
    table: Table = {"kind": [], "name": [], "spearman": [], "overlap": []}
    if measure.kind in WHY_NOT:
        return section | {"skipped": WHY_NOT[measure.kind]}, table, None
    x = inputs.features.take(rows).astype(np.float32)
    plan, notes = repetitions(measure, inputs, config)
    section["notes"] = notes

    def add(kind: str, name: str, mine: np.ndarray, its: np.ndarray) -> None:
        for column, value in {
            "kind": kind,
            "name": name,
            **compared(mine, its, config.top_share),
        }.items():
            table[column].append(value)

    folds = config.folds if isinstance(measure, EstimatorConfig | MlpMeasure) else 0
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
                if again.kind != WITHOUT_A_SET:
                    raise
                notes.append(f"Without {again.name} the measure cannot be fitted: {error.what}.")
            tracker.advance()
        if folds:
            fold, fitted = folds_of_rows(inputs.index.rows, config), list[ScoreOf]()
            for one in fold_scores(measure, inputs, fold, config):
                fitted.append(one)
                tracker.advance()
            out = out_of_fold(inputs.features, fold, fitted)
            assert isinstance(measure, EstimatorConfig | MlpMeasure)
            negatives = split_of(measure, inputs.index, inputs.features.ok())[rows] == TRAIN
            if negatives.any():
                add("out of fold", f"{config.folds} folds", score[negatives], out[rows][negatives])
    section["numbers"] = _numbers(table, config.top_share)
    return section, table, out


def folds_of_rows(rows: int, config: TrustConfig) -> np.ndarray:
    """int64 [rows]: each row's fold, by seeded hash: sources with a period (every fifth a duplicate) stay mixed."""
    salt = f"trust folds:{config.seed}"
    return (seeded_hash(np.arange(rows), salt) % np.uint64(config.folds)).astype(np.int64)


def fold_scores(
    measure: Measure, inputs: Inputs, fold: np.ndarray, config: TrustConfig
) -> Iterator[ScoreOf]:
    """A score a fold, learned as if the pool rows of that fold did not exist."""
    ok, pool = inputs.features.ok(), inputs.index.is_pool()
    for held in range(config.folds):
        shown = Shown(inputs.features.table, ok & ~(pool & (fold == held)))
        yield fit_again(measure, replace(inputs, features=shown))


def out_of_fold(features: Features, fold: np.ndarray, scores: Sequence[ScoreOf]) -> np.ndarray:
    """float32 [rows]: each row by the score that was learned without its fold's pool rows; NaN without a vector."""
    found = np.full(len(fold), np.nan, np.float32)
    for block in feature_blocks(features, BLOCK_ROWS):
        of_block = fold[block.first : block.first + len(block.ok)]
        for held, score in enumerate(scores):
            mine = np.flatnonzero(block.ok & (of_block == held))
            if len(mine):
                found[block.first + mine] = score(block.x[mine])
    return found


BOUNDS = {
    "seed": (0.95, 0.8),
    "steps": (0.9, 0.7),
    WITHOUT_A_SET: (0.9, 0.7),
    "out of fold": (0.95, 0.85),
}
LABEL = {
    "seed": "Another seed",
    "steps": "Another stop",
    WITHOUT_A_SET: "One robot set less",
    "out of fold": "Not met in training",
}
ADVICE = {
    "seed": "Lowest rank correlation with the same measure fitted with another seed; above 0.95 the ranking does not "
    "hang on chance, and below 0.8 add robot episodes (or train longer).",
    "steps": "Lowest rank correlation with the ranking at other stops; above 0.9 the early stop hardly matters, and "
    "below 0.7 compare selections of several stops before you commit.",
    WITHOUT_A_SET: "Lowest rank correlation when one robot set is left out; above 0.9 no set decides alone, and "
    "below 0.7 the selection serves that set: say so, or give it a selection of its own.",
    "out of fold": "Rank correlation with scores by an estimator that had not met the sample; above 0.95 having served "
    "as a negative costs a sample nothing, and below 0.85 select by the out-of-fold scores of this report (below).",
}
WORST = {
    "seed": "another seed",
    "steps": "another stop",
    WITHOUT_A_SET: "one robot set less",
    "out of fold": "an estimator that had not met the sample",
}


def _numbers(table: Table, top_share: float) -> list[dict[str, Any]]:
    numbers = []
    for kind, (good, bad) in BOUNDS.items():
        found = [
            value
            for name, value in zip(table["kind"], table["spearman"], strict=True)
            if name == kind
        ]
        if found:
            numbers.append(
                numbered(LABEL[kind], float(np.min(found)), ADVICE[kind], good=good, bad=bad)
            )
    if table["overlap"]:
        place = int(np.argmin(table["overlap"]))
        numbers.append(
            numbered(
                "Selection that stays",
                table["overlap"][place],
                f"Lowest share of the best {top_share:.0%} that stay among the best (here with "
                f"{WORST[table['kind'][place]]}); above 85 % the selection is settled, and below 60 % follow what the "
                "figure of that repetition says, or select more samples than you need.",
                good=0.85,
                bad=0.6,
                form="share",
            )
        )
    return numbers
