"""Figures about a finished column of scores: the `score` stage's manifest and its sweep.

score_metrics     counts and distribution of the scores, by source and for pool and robots
measure_metrics   what only a measure has beside: its kind, its ranking of held-out rows
missing_reasons   why rows have no score, counted
sweep_table       diversity and distance to the robots at every possible cut of the pool
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from emt_core.data.draws import falling_keys, ordered_rows
from emt_core.data.features import Features
from emt_core.data.index import Index, SourceRange
from emt_core.errors import EmtError
from emt_core.proximity.batches import stratified
from emt_core.proximity.metrics import ranking
from emt_core.proximity.metrics.calibration import sigmoid
from emt_core.proximity.metrics.sweep import diversity_sweep, mmd2_sweep
from emt_core.proximity.reference import Reference, sampled
from emt_core.proximity.split import TEST, rows_of_part, split_of
from emt_core.recipe.proximity import (
    EstimatorConfig,
    MeasureBase,
    ScoreConfig,
    SplitMeasure,
    measure_config,
)
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.table import Table

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

HELDOUT_ROWS = 10_000
"""Rows of each side (pool, robots) that the held-out ranking is measured on at the most."""

RUNS_MODEL = ("perplexity", "delta_perplexity", "gradient", "clip")
"""Kinds that say nothing on the held-out split. Perplexity and gradient of a robot frame are those
of its action text, which the VLM was tuned on or the target is made of: against a pool sample's
answer they would measure the format. CLIP asks for no robot."""


def score_metrics(logit: np.ndarray, sources: list[SourceRange]) -> dict[str, Any]:
    """Distribution of the scores of each source, of the pool and of the robot data.

    logit: float32 [rows of the index].
    """
    by_source = {s.name: {"role": s.role, **distribution(logit[s.start : s.stop])} for s in sources}
    metrics: dict[str, Any] = {"sources": by_source}
    for role in ("pool", "robot"):
        parts = [logit[s.start : s.stop] for s in sources if s.role == role]
        metrics[role] = distribution(np.concatenate(parts) if parts else logit[:0])
    return metrics


def distribution(logit: np.ndarray) -> dict[str, Any]:
    """Counts, mean, deviation, extremes and quantiles of float32 scores.

    `mean_score` is the mean of their sigmoids, which is what the paper averages (method section 6).
    NaN rows count as `missing`; numbers are None where there is no other row.
    """
    finite = logit[np.isfinite(logit)].astype(np.float64)
    counts = {"rows": len(logit), "scored": len(finite), "missing": len(logit) - len(finite)}
    if not len(finite):
        none = dict.fromkeys(("mean", "std", "min", "max", "mean_score"))
        return {**counts, **none, "quantiles": {}}
    cuts = np.quantile(finite, QUANTILES)
    return {
        **counts,
        "mean": float(finite.mean()),
        "std": float(finite.std()),
        "min": float(finite.min()),
        "max": float(finite.max()),
        "mean_score": float(sigmoid(finite).mean()),
        "quantiles": {f"{q:g}": float(cut) for q, cut in zip(QUANTILES, cuts, strict=True)},
    }


def spread_metrics(spread: np.ndarray) -> dict[str, float] | None:
    """Median and 95 % quantile of the scores' spread over seeds; None with one seed.

    spread: float32 [pool rows], NaN where there is none.
    """
    known = spread[np.isfinite(spread)]
    if not len(known):
        return None
    median, high = np.quantile(known, [0.5, 0.95])
    return {"median": float(median), "p95": float(high)}


def measure_metrics(
    metrics: dict[str, Any], measure: Artifact, logit: np.ndarray, index: Index, features: Features
) -> dict[str, Any]:
    """`metrics` with what only a measure has: its kind, and its ranking of the held-out split."""
    config = measure_config(**measure.config)
    is_logit = measure.metrics["is_logit"]
    if not is_logit:  # a mean of sigmoids is the paper's mean score only of log odds
        for part in (*metrics["sources"].values(), metrics["pool"], metrics["robot"]):
            part["mean_score"] = None
    heldout = None
    if config.kind not in RUNS_MODEL:
        heldout = heldout_ranking(logit, index, features.ok() & np.isfinite(logit), config)
    return {**metrics, "kind": config.kind, "is_logit": is_logit, "heldout": heldout}


def heldout_ranking(
    logit: np.ndarray, index: Index, ok: np.ndarray, config: MeasureBase
) -> dict[str, Any] | None:
    """AUROC and average precision on the test split, robot sets in equal parts.

    A measure that learns nothing is judged on the estimator's split. None where there is no split.
    """
    split = config if isinstance(config, SplitMeasure) else EstimatorConfig(seed=config.seed)
    try:
        part = split_of(split, index, ok)
    except EmtError:  # too few robot episodes, or no pool: a random draw needs neither
        return None
    pool, robots = rows_of_part(index, part, TEST)
    rows, stratum = stratified(pool, robots, HELDOUT_ROWS, config.seed)
    robot = stratum > 0
    weights = ranking.balanced_weights(robot, stratum)
    return {
        "auroc": ranking.auroc(robot, logit[rows], weights),
        "average_precision": ranking.average_precision(robot, logit[rows], weights),
        "rows": {"pool": int((~robot).sum()), "robot": int(robot.sum())},
    }


def missing_reasons(table: Table) -> dict[str, int]:
    """Why rows of a measure's score have none, counted."""
    counts = Counter[str]()
    for batch in table.scan(["reason"]):
        for item in batch.column(0).value_counts().to_pylist():
            counts[item["values"]] += item["counts"]
    return {reason: count for reason, count in sorted(counts.items()) if reason}


def sweep_table(
    logit: np.ndarray, reference: Reference, config: ScoreConfig
) -> tuple[pa.Table, dict[str, Any]]:
    """(table: row logit diversity mmd2_to_robot and their errors, figures about it).

    Rows: a seeded subsample of the pool in falling order of score. The other columns are those of
    everything down to that row (metrics/sweep.py).
    """
    pool = reference.pool[np.isfinite(logit[reference.pool])]
    rows = sampled(pool, config.sweep_sample)
    rows = ordered_rows(falling_keys(logit[rows], rows))
    vectors = reference.features.take(rows).astype(np.float32)
    nothing = np.full(len(rows), np.nan)
    among = reference.among_robots
    varied = (nothing, nothing)
    near = (nothing, nothing)
    if len(rows):
        varied = diversity_sweep(vectors, len(pool))
    if among is not None and len(rows) >= 2:
        robots = [robot.vectors for robot in reference.robots.values()]
        near = mmd2_sweep(vectors, len(pool), robots, among, reference.sigma)
    columns = {
        "row": rows,
        "logit": logit[rows],
        "diversity": varied[0],
        "mmd2_to_robot": near[0],
        "diversity_error": varied[1],
        "mmd2_to_robot_error": near[1],
    }
    about = {
        "rows": len(rows),
        "robot_rows": reference.robot_rows,
        "sigma": reference.sigma if among is not None else None,
    }
    return pa.table(columns), about
