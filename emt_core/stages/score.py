"""score: a proximity score for every row of the index, from an estimator or another measure, in one streaming pass.

scores.lance        logit float32, row i = index row i; NaN without a score. Higher is nearer. The log odds of robot
                    against pool where the measure is a classifier, else the measure's own number (see proximity/).
                    Of a measure also `reason` string: why there is no score, empty where there is one
sweep.parquet       row, logit, diversity, mmd2_to_robot: a seeded subsample of the pool in falling order; the last two
                    as they would be of everything down to that row (see sweep.py)

The embed artifact is only read. Committed rows are never scored again, so a kill costs at most one commit: commit_rows
rows, or COMMIT_SECONDS of work (more in a long run) where a model makes them dear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emt_core.artifact import Artifact, make_key
from emt_core.errors import EmtError
from emt_core.index import Index, SourceRange
from emt_core.measure_config import MeasureConfig
from emt_core.metrics import ranking
from emt_core.metrics.mmd import median_sigma
from emt_core.proximity import measure_of
from emt_core.proximity.base import Inputs, rows_of_part
from emt_core.proximity.draws import bounded
from emt_core.proximity.split import TEST, split_of
from emt_core.proximity.twin import taken_over, twin_key
from emt_core.scoring import stream_logits
from emt_core.selection.order import Purpose, falling_keys, ordered_rows, random_keys
from emt_core.stage_config import ScoreConfig
from emt_core.stages import Context, Outcome
from emt_core.store import CommitClock, Features, Table
from emt_core.sweep import diversity_sweep, mmd2_sweep

VERSION = 2
HELDOUT_ROWS = 10_000
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SCHEMA = pa.schema([("logit", pa.float32())])
MEASURE_SCHEMA = pa.schema([("logit", pa.float32()), ("reason", pa.string())])
COMMIT_SECONDS = 30.0
"""As in embed: work that a kill may cost; it grows with the run (store.PATIENT_FOR_S)."""

RUNS_MODEL = ("perplexity", "delta_perplexity", "clip")
"""Kinds that say nothing on the held-out split. Perplexity of a robot frame is that of the action text, on which the
VLM was tuned: against a pool sample's answer it would measure the format. CLIP asks for no robot."""


def run(context: Context) -> Outcome:
    config = context.config
    assert isinstance(config, ScoreConfig)
    index = Index(context.parents["sources"])
    features = Features.at(context.parents["embed"].data / "features.lance")
    if features.rows != index.rows:
        raise EmtError(
            f"the features have {features.rows:,} rows and the index {index.rows:,}",
            where=context.parents["embed"].path,
            remedy="delete this embed artifact and run embed again",
        )
    table = Table(context.out / "scores.lance")
    twin = _twin(context) if "measure" in context.parents else None
    _score_rows(context, table, features, index, twin)
    logit = table.column("logit")
    metrics = score_metrics(logit, index.sources)
    if "measure" in context.parents:
        metrics = of_measure(metrics, context.parents["measure"], logit, index, features)
        metrics |= {"missing_by_reason": reasons(table)} | _arithmetic(context) | (taken_over(twin) if twin else {})
    if not metrics["pool"]["scored"]:
        raise EmtError("no pool row has a score", where="score", remedy="look at the status counts of embed")
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


def of_measure(
    metrics: dict[str, Any], measure: Artifact, logit: np.ndarray, index: Index, features: Features
) -> dict[str, Any]:
    """What a measure's score says beside its distribution: the kind, and AUROC on the split that no fit has seen."""
    config = MeasureConfig.model_validate(measure.config)
    is_logit = measure.metrics["is_logit"]
    if not is_logit:  # a mean of sigmoids is the paper's mean score only of log odds
        for facts in (*metrics["sources"].values(), metrics["pool"], metrics["robot"]):
            facts["mean_score"] = None
    heldout = None
    if config.kind not in RUNS_MODEL:
        heldout = heldout_ranking(logit, index, features.ok() & np.isfinite(logit), config)
    return {**metrics, "kind": config.kind, "is_logit": is_logit, "heldout": heldout}


def heldout_ranking(logit: np.ndarray, index: Index, ok: np.ndarray, config: MeasureConfig) -> dict[str, Any] | None:
    """AUROC and average precision on the test split (robot sets in equal parts); None where there is no such split."""
    try:
        part = split_of(config, index, ok)
    except EmtError:  # too few robot episodes, or no pool: a random draw or an imported column needs neither
        return None
    pool, robots = rows_of_part(index, part, TEST)
    groups = [*bounded([pool], HELDOUT_ROWS, config.seed), *bounded(robots, HELDOUT_ROWS, config.seed)]
    rows, stratum = np.concatenate(groups), np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    weights = ranking.balanced_weights(stratum > 0, stratum)
    return {
        "auroc": ranking.auroc(stratum > 0, logit[rows], weights),
        "average_precision": ranking.average_precision(stratum > 0, logit[rows], weights),
        "rows": {"pool": len(groups[0]), "robot": len(rows) - len(groups[0])},
    }


def _parts(
    context: Context, features: Features, index: Index, start: int, missing: dict[int, str], twin: Artifact | None
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float32 scores) from row `start` on. missing: gets row -> reason where a model has no score."""
    if "estimator" in context.parents:
        weight, bias = load_weights(context.parents["estimator"], features.dim)
        return stream_logits(features, weight, bias, start=start)
    measure = context.parents["measure"]
    inputs = Inputs(
        index=index,
        features=features,
        embed=context.parents["embed"],
        base=context.base,
        runtime=context.runtime,
        progress=context.progress,
        twin=twin,
        no_score=missing.__setitem__,
    )
    config = MeasureConfig.model_validate(measure.config)
    return _with_vector(measure_of(config.kind).scores(config, inputs, measure.data, start), features, missing)


def _with_vector(
    parts: Iterator[tuple[int, np.ndarray]], features: Features, missing: dict[int, str]
) -> Iterator[tuple[int, np.ndarray]]:
    """A row without a vector is no candidate whatever measures it: NaN, as with the estimator."""
    for at, found in parts:
        ok = features.ok(start=at, stop=at + len(found))
        missing.update(dict.fromkeys((at + np.flatnonzero(~ok)).tolist(), "no_vector"))
        yield at, np.where(ok, found, np.float32(np.nan))


def _twin(context: Context) -> Artifact | None:
    """The finished score of perplexity whose losses of the tuned VLM delta perplexity needs too (proximity/twin.py)."""
    measure = context.parents["measure"].manifest
    if measure["config"]["kind"] != "delta_perplexity":
        return None
    names = ("version", "config", "identity", "parents")
    keys = {name: parent.key for name, parent in context.parents.items()}
    keys["measure"] = str(twin_key(**{name: measure[name] for name in names}))
    config = context.config.model_dump(mode="json")
    found = context.workspace.find(
        "score", make_key(stage="score", version=VERSION, config=config, identity=None, parents=keys)
    )
    same = found is not None and found.metrics.get("dtype") == _arithmetic(context)["dtype"]
    return found if same else None


def _arithmetic(context: Context) -> dict[str, str]:
    """Of a measure that runs a model (as token_loss.py and the CLIP encoder choose it); empty for all others."""
    if context.parents["measure"].config["kind"] not in RUNS_MODEL:
        return {}
    from emt_core.encoders.base import choose_device, choose_dtype

    dtype = choose_dtype("auto", choose_device(context.runtime.device))
    return {"dtype": str(dtype).removeprefix("torch.")}


def _score_rows(context: Context, table: Table, features: Features, index: Index, twin: Artifact | None) -> None:
    at, of_measure = table.rows, "measure" in context.parents
    missing: dict[int, str] = {}
    waiting: list[np.ndarray] = []
    clock = CommitClock(context.runtime.commit_rows, COMMIT_SECONDS)
    with context.progress.track("scoring", features.rows, done=at) as tracker:

        def flush() -> None:
            nonlocal at
            if not waiting:
                return
            logit = np.concatenate(waiting)
            waiting.clear()
            columns: dict[str, Any] = {"logit": logit}
            if of_measure:
                reason = np.full(len(logit), "", object)
                for place in np.flatnonzero(np.isnan(logit)).tolist():
                    reason[place] = missing.get(at + place, "no_score")
                columns["reason"] = reason
                missing.clear()
            table.append(pa.table(columns, schema=MEASURE_SCHEMA if of_measure else SCHEMA))
            at += len(logit)
            clock.restart()

        for _, logit in _parts(context, features, index, at, missing, twin):
            if len(logit):
                waiting.append(logit)
                tracker.advance(len(logit))
            if clock.due(sum(map(len, waiting))):
                flush()
        flush()


def reasons(table: Table) -> dict[str, int]:
    """Why rows of a measure's score have none, counted."""
    found = Counter[str]()
    for batch in table.scan(["reason"]):
        for item in batch.column(0).value_counts().to_pylist():
            found[item["values"]] += item["counts"]
    return {reason: count for reason, count in sorted(found.items()) if reason}


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


def sweep_table(
    logit: np.ndarray, index: Index, features: Features, config: ScoreConfig
) -> tuple[pa.Table, dict[str, Any]]:
    """The sweep and its facts. Rows without an image stay out: a selection leaves them out unless asked."""
    pool = index.is_pool() & np.isfinite(logit) & (index.table.column("n_images") > 0)
    rows = ordered_rows(random_keys(config.seed, np.flatnonzero(pool), Purpose.SWEEP), config.sweep_sample)
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
        rows = ordered_rows(random_keys(config.seed, there, Purpose.SWEEP), max(config.sweep_sample // len(robots), 2))
        if len(rows) >= 2:
            found.append(features.take(np.sort(rows)).astype(np.float32))
    return found
