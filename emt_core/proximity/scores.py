"""TODO."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from emt_core.data.draws import Purpose, falling_keys, ordered_rows, random_keys
from emt_core.data.features import Features
from emt_core.data.index import Index, SourceRange
from emt_core.errors import EmtError
from emt_core.proximity.batches import bounded
from emt_core.proximity.metrics import ranking
from emt_core.proximity.metrics.mmd import median_sigma
from emt_core.proximity.metrics.sweep import diversity_sweep, mmd2_sweep
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

HELDOUT_ROWS = 10_000


QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


RUNS_MODEL = ("perplexity", "delta_perplexity", "clip")
"""Kinds that say nothing on the held-out split. Perplexity of a robot frame is that of the action text, on which the
VLM was tuned: against a pool sample's answer it would measure the format. CLIP asks for no robot."""


def load_weights(estimator: Artifact, dim: int) -> tuple[np.ndarray, float]:
    """(float32 [dim], bias). Raises EmtError where they do not belong to features of this width or are not finite."""
    from safetensors.numpy import load_file

    path = estimator.data / "weights.safetensors"
    stored = load_file(path)
    weight, bias = stored["weight"].reshape(-1), float(stored["bias"].reshape(-1)[0])
    if weight.shape != (dim,):
        raise EmtError(
            f"the estimator has {weight.size} weights, the features {dim} dimensions",
            where=path,
            remedy="train the estimator on this embed instance (`parents: {embed: ...}`)",
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias)):
        raise EmtError(
            "the estimator has weights that are not finite",
            where=path,
            remedy="lower its learning_rate",
        )
    return weight, bias


def of_measure(
    metrics: dict[str, Any], measure: Artifact, logit: np.ndarray, index: Index, features: Features
) -> dict[str, Any]:
    """What a measure's score says beside its distribution: the kind, and AUROC on the split that no fit has seen."""
    config = measure_config(**measure.config)
    is_logit = measure.metrics["is_logit"]
    if not is_logit:  # a mean of sigmoids is the paper's mean score only of log odds
        for facts in (*metrics["sources"].values(), metrics["pool"], metrics["robot"]):
            facts["mean_score"] = None
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
    groups = [
        *bounded([pool], HELDOUT_ROWS, config.seed),
        *bounded(robots, HELDOUT_ROWS, config.seed),
    ]
    rows = np.concatenate(groups)
    stratum = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    weights = ranking.balanced_weights(stratum > 0, stratum)
    return {
        "auroc": ranking.auroc(stratum > 0, logit[rows], weights),
        "average_precision": ranking.average_precision(stratum > 0, logit[rows], weights),
        "rows": {"pool": len(groups[0]), "robot": len(rows) - len(groups[0])},
    }


def score_metrics(logit: np.ndarray, sources: list[SourceRange]) -> dict[str, Any]:
    """Distribution of the logits of each source, of the pool and of the robot data."""
    found: dict[str, Any] = {
        "sources": {
            s.name: {"role": s.role, **distribution(logit[s.start : s.stop])} for s in sources
        }
    }
    for role in ("pool", "robot"):
        parts = [logit[s.start : s.stop] for s in sources if s.role == role]
        found[role] = distribution(np.concatenate(parts) if parts else logit[:0])
    return found


def distribution(logit: np.ndarray) -> dict[str, Any]:
    """Counts, mean, deviation, extremes and quantiles of float32 logits.

    `mean_score` is the mean of their sigmoids, which is what the paper averages (method section 6). NaN rows count as
    `missing`; numbers are None where there is no other row.
    """
    there = logit[np.isfinite(logit)].astype(np.float64)
    facts: dict[str, Any] = {
        "rows": len(logit),
        "scored": len(there),
        "missing": len(logit) - len(there),
    }
    names = ("mean", "std", "min", "max", "mean_score")
    if not len(there):
        return {**facts, **dict.fromkeys(names), "quantiles": {}}
    score = 0.5 * (1 + np.tanh(there / 2))
    values = (there.mean(), there.std(), there.min(), there.max(), score.mean())
    facts.update(zip(names, (float(value) for value in values), strict=True))
    cuts = np.quantile(there, QUANTILES)
    return {
        **facts,
        "quantiles": {f"{q:g}": float(cut) for q, cut in zip(QUANTILES, cuts, strict=True)},
    }


def sweep_table(
    logit: np.ndarray, index: Index, features: Features, config: ScoreConfig
) -> tuple[pa.Table, dict[str, Any]]:
    """The sweep and its facts. Rows without an image stay out: a selection leaves them out unless asked."""
    pool = index.is_pool() & np.isfinite(logit) & (index.table.column("n_images") > 0)
    rows = ordered_rows(
        random_keys(config.seed, np.flatnonzero(pool), Purpose.SWEEP), config.sweep_sample
    )
    rows = ordered_rows(falling_keys(logit[rows], rows))
    robots = robot_samples(logit, index, features, config)
    vectors = features.take(rows).astype(np.float32)
    nothing = np.full(len(rows), np.nan)
    measurable = bool(robots) and len(rows) >= 2
    sigma = median_sigma([vectors, *robots], config.seed) if measurable else None
    table = pa.table(
        {
            "row": rows,
            "logit": logit[rows],
            "diversity": diversity_sweep(vectors) if len(rows) else nothing,
            "mmd2_to_robot": mmd2_sweep(vectors, robots, sigma) if sigma is not None else nothing,
        }
    )
    facts = {
        "rows": len(rows),
        "robot_rows": sum(map(len, robots)),
        "sigma": sigma,
        "mmd": "unbiased",
    }
    return table, facts


def robot_samples(
    logit: np.ndarray, index: Index, features: Features, config: ScoreConfig
) -> list[np.ndarray]:
    """float32 [n, dim] for each robot source with at least two vectors; together about `sweep_sample` rows."""
    robots = index.of_role("robot")
    found = []
    for source in robots:
        there = source.start + np.flatnonzero(np.isfinite(logit[source.start : source.stop]))
        rows = ordered_rows(
            random_keys(config.seed, there, Purpose.SWEEP),
            max(config.sweep_sample // len(robots), 2),
        )
        if len(rows) >= 2:
            found.append(features.take(np.sort(rows)).astype(np.float32))
    return found


def reasons(table: Table) -> dict[str, int]:
    """Why rows of a measure's score have none, counted."""
    found = Counter[str]()
    for batch in table.scan(["reason"]):
        for item in batch.column(0).value_counts().to_pylist():
            found[item["values"]] += item["counts"]
    return {reason: count for reason, count in sorted(found.items()) if reason}
