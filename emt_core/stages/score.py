"""score: a proximity score for every row of the index, in one streaming pass.

scores.lance     logit float32, row i = index row i; NaN without a score. Higher is nearer: the log
                 odds of robot against pool where the measure is a classifier, else the measure's
                 own number (proximity/base.py). Of an estimator also `spread` float32: the standard
                 deviation of its seeds' logits, NaN with one seed. Of a measure also `reason`
                 string: why there is no score, empty where there is one
arithmetic.json  of a measure that runs a model: dtype, device (models/device.py)
sweep.parquet    row logit diversity mmd2_to_robot: a seeded subsample of the pool in falling order;
                 the last two of everything down to that row (proximity/metrics/sweep.py)

The embed artifact is only read. Committed rows are never scored again: a kill costs at most one
commit, of `commit_rows` rows, or of COMMIT_SECONDS of work (more in a long run) where a model makes
rows dear.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs, measure_of
from emt_core.proximity.perplexity.twin import taken_over, twin_key
from emt_core.proximity.reference import Reference
from emt_core.proximity.scores import (
    RUNS_MODEL,
    measure_metrics,
    missing_reasons,
    score_metrics,
    spread_metrics,
    sweep_table,
)
from emt_core.recipe.proximity import EstimatorConfig, ScoreConfig, measure_config
from emt_core.run.stage import Context, Outcome
from emt_core.workspace.artifact import Artifact, make_key
from emt_core.workspace.table import CommitClock, Table

VERSION = 4
SCHEMA = pa.schema({"logit": pa.float32(), "spread": pa.float32()})
MEASURE_SCHEMA = pa.schema({"logit": pa.float32(), "reason": pa.string()})

COMMIT_SECONDS = 30.0
"""As in embed: work that a kill may cost; it grows with the run (table.PATIENT_FOR_S)."""


def run(context: Context) -> Outcome:
    """Raises EmtError where no pool row has a score, or the features are not of this index."""
    config = context.config
    assert isinstance(config, ScoreConfig)
    inputs = Inputs.of(context)
    index, features = inputs.index, inputs.features
    if features.rows != index.rows:
        raise EmtError(
            f"the features have {features.rows:,} rows and the index {index.rows:,}",
            where=inputs.embed.path,
            remedy="delete this embed artifact and run embed again",
        )
    table = Table(context.out / "scores.lance")
    measure = context.parents.get("measure")
    if measure and measure.config["kind"] in RUNS_MODEL:
        from emt_core.models.device import settled_arithmetic

        settled = settled_arithmetic(context.out, "auto", context.runtime.device)
        inputs = replace(inputs, precision=settled.dtype)
    twin = _twin(context, measure) if measure else None
    _score_rows(context, table, replace(inputs, twin=twin))
    logit = table.column("logit")
    metrics = score_metrics(logit, index.sources)
    if not measure:
        metrics["spread"] = spread_metrics(table.column("spread")[index.is_pool()])
    else:
        metrics = measure_metrics(metrics, measure, logit, index, features)
        metrics |= {"missing_by_reason": missing_reasons(table)}
        metrics |= taken_over(twin) if twin else {}
    if not metrics["pool"]["scored"]:
        raise EmtError(
            "no pool row has a score", where="score", remedy="look at the status counts of embed"
        )
    reference = Reference(index=index, features=features, ok=features.ok())
    sweep, metrics["sweep"] = sweep_table(logit, reference, config)
    pq.write_table(sweep, context.out / "sweep.parquet")
    return Outcome(rows=len(logit), metrics=metrics)


def _score_rows(context: Context, table: Table, inputs: Inputs) -> None:
    """Append to the table, commit by commit, from its row count on."""
    at = table.rows
    of_measure = "measure" in context.parents
    missing: dict[int, str] = {}
    waiting: list[np.ndarray] = []
    clock = CommitClock(context.runtime.commit_rows, COMMIT_SECONDS)
    with context.progress.track("scoring", inputs.index.rows, done=at) as tracker:

        def flush() -> None:
            nonlocal at
            if not waiting:
                return
            logit = np.concatenate(waiting)
            waiting.clear()
            columns: dict[str, Any] = {"logit": logit[:, 0]}
            if not of_measure:
                columns["spread"] = logit[:, 1]
            else:
                reason = np.full(len(logit), "", object)
                for place in np.flatnonzero(np.isnan(logit[:, 0])).tolist():
                    reason[place] = missing.get(at + place, "no_score")
                columns["reason"] = reason
                missing.clear()
            table.append(pa.table(columns, schema=MEASURE_SCHEMA if of_measure else SCHEMA))
            at += len(logit)
            clock.restart()

        for logit in _parts(context, inputs, at, missing):
            if len(logit):
                waiting.append(logit)
                tracker.advance(len(logit))
            if clock.due(sum(map(len, waiting))):
                flush()
        flush()


def _parts(
    context: Context, inputs: Inputs, start: int, missing: dict[int, str]
) -> Iterator[np.ndarray]:
    """float32 [n, 2] scores and spreads from row `start` on, in order.

    Scores are NaN also where a row has no vector, spreads where a measure knows none.

    A row without a vector is no candidate whatever measures it. missing: gets index row -> reason
    for rows that a measure has no score for.
    """
    made_by = context.parents.get("estimator") or context.parents["measure"]
    # an estimator's weights say all that scoring needs
    linear = made_by.stage == "estimator"
    config = EstimatorConfig() if linear else measure_config(**made_by.config)
    inputs = replace(inputs, no_score=missing.__setitem__)
    for at, scores in measure_of(config.kind).scores(config, inputs, made_by.data, start):
        if not linear:  # a linear score is NaN there already
            ok = inputs.features.ok(start=at, stop=at + len(scores))
            missing.update(dict.fromkeys((at + np.flatnonzero(~ok)).tolist(), "no_vector"))
            scores = np.where(ok, scores, np.float32(np.nan))
        if scores.ndim == 1:
            scores = np.stack([scores, np.full_like(scores, np.nan)], axis=1)
        yield scores


def _twin(context: Context, measure: Artifact) -> Artifact | None:
    """The finished score of perplexity that delta perplexity shares losses with.

    Those of the tuned VLM (proximity/perplexity/twin.py); None where there is none.
    """
    if measure.config["kind"] != "delta_perplexity":
        return None
    names = ("version", "config", "identity", "parents")
    keys = {name: parent.key for name, parent in context.parents.items()}
    keys["measure"] = str(twin_key(**{name: measure.manifest[name] for name in names}))
    config = context.config.model_dump(mode="json")
    key = make_key(stage="score", version=VERSION, config=config, identity=None, parents=keys)
    from emt_core.models.device import arithmetic_of

    found = context.workspace.find("score", key)
    if found is None or arithmetic_of(found.data) != arithmetic_of(context.out):
        return None
    return found
