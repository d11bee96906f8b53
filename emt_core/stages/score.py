"""score: a logit for every row of the index, from the estimator's weights, in one streaming pass over the features.

scores.lance        logit float32, row i = index row i; NaN without a vector
histogram.parquet   source, bin_left, bin_right, count: the same bins for every source, robot sources too
sweep.parquet       row, logit, diversity, mmd2_to_robot: a seeded subsample of the pool in falling order; the last two
                    as they would be of everything down to that row (see sweep.py)

The embed artifact is only read. Committed rows are never scored again, so a kill costs at most one commit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emt_core.artifact import Artifact
from emt_core.errors import EmtError
from emt_core.index import Index, SourceRange
from emt_core.metrics.mmd import median_sigma
from emt_core.scoring import stream_logits
from emt_core.selection.order import falling_keys, ordered_rows, random_keys
from emt_core.stage_config import ScoreConfig
from emt_core.stages import Context, Outcome
from emt_core.store import Features, Table
from emt_core.sweep import diversity_sweep, mmd2_sweep

VERSION = 1
BINS = 120
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SCHEMA = pa.schema([("logit", pa.float32())])


def run(context: Context) -> Outcome:
    config = context.config
    assert isinstance(config, ScoreConfig)
    index = Index(context.parents["sources"])
    features = Features.at(context.parents["embed"].data / "features.lance")
    weight, bias = load_weights(context.parents["estimator"], features.dim)
    if features.rows != index.rows:
        raise EmtError(
            f"the features have {features.rows:,} rows and the index {index.rows:,}",
            where=context.parents["embed"].path,
            remedy="delete this embed artifact and run embed again",
        )
    table = Table(context.out / "scores.lance")
    _score_rows(context, table, features, weight, bias)
    logit = table.column("logit")
    metrics = score_metrics(logit, index.sources)
    if not metrics["pool"]["scored"]:
        raise EmtError("no pool row has a score", where="score", remedy="look at the status counts of embed")
    pq.write_table(histogram(logit, index.sources), context.out / "histogram.parquet")
    sweep, facts = sweep_table(logit, index, features, config)
    pq.write_table(sweep, context.out / "sweep.parquet")
    return Outcome(rows=len(logit), metrics={**metrics, "sweep": facts})


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
        raise EmtError("the estimator has weights that are not finite", where=path, remedy="lower its learning_rate")
    return weight, bias


def _score_rows(context: Context, table: Table, features: Features, weight: np.ndarray, bias: float) -> None:
    done, commit = table.rows, context.runtime.commit_rows
    waiting: list[np.ndarray] = []
    with context.progress.track("scoring", features.rows, done=done) as tracker:

        def flush() -> None:
            if waiting:
                logit = np.concatenate(waiting)
                waiting.clear()
                table.append(pa.table({"logit": logit}, schema=SCHEMA))
                tracker.advance(len(logit))

        for _, logit in stream_logits(features, weight, bias, start=done):
            if len(logit):
                waiting.append(logit)
            if sum(map(len, waiting)) >= commit:
                flush()
        flush()


def score_metrics(logit: np.ndarray, sources: list[SourceRange]) -> dict[str, Any]:
    """Distribution of the logits of each source, of the pool and of the robot data."""
    found: dict[str, Any] = {
        "sources": {s.name: {"role": s.role, **distribution(logit[s.start : s.stop])} for s in sources}
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
    facts: dict[str, Any] = {"rows": len(logit), "scored": len(there), "missing": len(logit) - len(there)}
    names = ("mean", "std", "min", "max", "mean_score")
    if not len(there):
        return {**facts, **dict.fromkeys(names), "quantiles": {}}
    score = 0.5 * (1 + np.tanh(there / 2))
    values = (there.mean(), there.std(), there.min(), there.max(), score.mean())
    facts.update(zip(names, (float(value) for value in values), strict=True))
    cuts = np.quantile(there, QUANTILES)
    return {**facts, "quantiles": {f"{q:g}": float(cut) for q, cut in zip(QUANTILES, cuts, strict=True)}}


def histogram(logit: np.ndarray, sources: list[SourceRange]) -> pa.Table:
    """Counts in BINS equal bins over the range of all finite logits."""
    there = logit[np.isfinite(logit)]
    low, high = float(there.min()), float(there.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    columns: dict[str, list[Any]] = {"source": [], "bin_left": [], "bin_right": [], "count": []}
    for source in sources:
        part = logit[source.start : source.stop]
        counts, _ = np.histogram(part[np.isfinite(part)].astype(np.float64), edges)
        columns["source"] += [source.name] * BINS
        columns["bin_left"] += edges[:-1].tolist()
        columns["bin_right"] += edges[1:].tolist()
        columns["count"] += counts.tolist()
    return pa.table(columns)


def sweep_table(
    logit: np.ndarray, index: Index, features: Features, config: ScoreConfig
) -> tuple[pa.Table, dict[str, Any]]:
    """The sweep and its facts. Rows without an image stay out: a selection leaves them out unless asked."""
    pool = index.is_pool() & np.isfinite(logit) & (index.table.column("n_images") > 0)
    rows = ordered_rows(random_keys(config.seed, np.flatnonzero(pool)), config.sweep_sample)
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
    facts = {"rows": len(rows), "robot_rows": sum(map(len, robots)), "sigma": sigma, "mmd": "unbiased"}
    return table, facts


def robot_samples(logit: np.ndarray, index: Index, features: Features, config: ScoreConfig) -> list[np.ndarray]:
    """float32 [n, dim] for each robot source with at least two vectors; together about `sweep_sample` rows."""
    robots = index.of_role("robot")
    found = []
    for source in robots:
        there = source.start + np.flatnonzero(np.isfinite(logit[source.start : source.stop]))
        rows = ordered_rows(random_keys(config.seed, there), max(config.sweep_sample // len(robots), 2))
        if len(rows) >= 2:
            found.append(features.take(np.sort(rows)).astype(np.float32))
    return found
