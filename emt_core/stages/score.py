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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emt_core.errors import EmtError
from emt_core.models.device import arithmetic_of, require_here, settled_arithmetic
from emt_core.models.encoders.batches import shards_of
from emt_core.proximity.base import Inputs, OnModel, ScoresOf, measure_of
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
from emt_core.run.engines.base import WORKERS
from emt_core.run.shards import SHARDS, Shard, done_shards, mark_done, pieces, read_shard
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
    inputs = _inputs(context)
    index, features = inputs.index, inputs.features
    if features.rows != index.rows:
        raise EmtError(
            f"the features have {features.rows:,} rows and the index {index.rows:,}",
            where=inputs.embed.path,
            remedy="delete this embed artifact and run embed again",
        )
    table = Table(context.out / "scores.lance")
    measure = context.parents.get("measure")
    _score_rows(context, table, inputs)
    logit = table.column("logit")
    metrics = score_metrics(logit, index.sources)
    if not measure:
        metrics["spread"] = spread_metrics(table.column("spread")[index.is_pool()])
    else:
        metrics = measure_metrics(metrics, measure, logit, index, features)
        metrics |= {"missing_by_reason": missing_reasons(table)}
        metrics |= taken_over(inputs.twin) if inputs.twin else {}
    if not metrics["pool"]["scored"]:
        raise EmtError(
            "no pool row has a score", where="score", remedy="look at the status counts of embed"
        )
    reference = Reference(index=index, features=features, ok=features.ok())
    sweep, metrics["sweep"] = sweep_table(logit, reference, config)
    pq.write_table(sweep, context.out / "sweep.parquet")
    return Outcome(rows=len(logit), metrics=metrics, scratch=(SHARDS, WORKERS))


def shards(context: Context) -> list[Shard]:
    """Rows that workers may score: of a measure that runs a model, and of no stream."""
    if not _runs_model(context):
        return []
    index = _inputs(context).index
    committed = Table(context.out / "scores.lance").rows
    return [
        shard
        for source in index.sources
        for shard in shards_of(index, source, context.runtime)
        if shard.start >= committed
    ]


@contextmanager
def open_worker(context: Context) -> Iterator[Callable[[Shard], None]]:
    """The measure's model loaded once; then a call scores one shard."""
    rows = _Rows(context, _inputs(context))
    rows.load()
    table = Table(context.out / "scores.lance")

    def make(shard: Shard) -> None:
        logit = np.concatenate(list(rows.scores(shard.start, shard.stop)))
        fragments = table.write_fragments(rows.as_table(shard.start, logit))
        mark_done(context.out, shard, {"fragments": fragments})

    yield make


def _runs_model(context: Context) -> bool:
    measure = context.parents.get("measure")
    return measure is not None and measure.config["kind"] in RUNS_MODEL


def _inputs(context: Context) -> Inputs:
    """What the measure scores, in the arithmetic of this artifact."""
    inputs = Inputs.of(context)
    if _runs_model(context):
        runtime = context.runtime
        settled = settled_arithmetic(
            context.out, "auto", runtime.device, on_gpu_elsewhere=runtime.workers_have_gpus
        )
        inputs = replace(inputs, precision=settled.dtype)
    measure = context.parents.get("measure")
    return replace(inputs, twin=_twin(context, measure) if measure else None)


def _score_rows(context: Context, table: Table, inputs: Inputs) -> None:
    """Append to the table, commit by commit, from its row count on."""
    at = table.rows
    rows = _Rows(context, inputs)
    waiting: list[np.ndarray] = []
    clock = CommitClock(context.runtime.commit_rows, COMMIT_SECONDS)
    with context.progress.track("scoring", inputs.index.rows, done=at) as tracker:

        def flush() -> None:
            nonlocal at
            if waiting:
                logit = np.concatenate(waiting)
                waiting.clear()
                table.append(rows.as_table(at, logit))
                at += len(logit)
            clock.restart()

        for piece, made in pieces(done_shards(context.out, start=at), at, inputs.index.rows):
            if made:
                flush()
                parts = (read_shard(context.out, shard)["fragments"] for shard in made)
                table.commit_fragments(list(chain.from_iterable(parts)), rows.schema)
                at = piece.stop
                tracker.advance(piece.rows)
                continue
            for logit in rows.scores(piece.start, piece.stop):
                waiting.append(logit)
                tracker.advance(len(logit))
                if clock.due(sum(map(len, waiting))):
                    flush()
        flush()


class _Rows:
    """Scores of index rows, and the table's rows made of them."""

    def __init__(self, context: Context, inputs: Inputs) -> None:
        self._context = context
        self.missing: dict[int, str] = {}
        """Index row -> reason, for rows that the measure has no score for."""

        self.made_by = context.parents.get("estimator") or context.parents["measure"]
        # an estimator's weights say all that scoring needs
        self.linear = self.made_by.stage == "estimator"
        self.config = EstimatorConfig() if self.linear else measure_config(**self.made_by.config)
        self.inputs = replace(inputs, no_score=self.missing.__setitem__)
        self.schema = SCHEMA if self.linear else MEASURE_SCHEMA

    @cached_property
    def scores_of(self) -> ScoresOf:
        """Loads the model of a measure that has one."""
        measure = measure_of(self.config.kind)
        if self.config.kind in RUNS_MODEL:
            settled = arithmetic_of(self._context.out)
            assert settled is not None
            require_here(settled, self._context.runtime.device, self._context.out)
            on_model = cast(OnModel, measure)
            return on_model.scorer(self.config, self.inputs, self.made_by.data)
        # no shards: whatever is asked for reaches to the last row
        return lambda start, stop: measure.scores(
            self.config, self.inputs, self.made_by.data, start
        )

    def load(self) -> None:
        """Load the model now, not with the first row."""
        _ = self.scores_of

    def scores(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """float32 [n, 2] scores and spreads of rows [start, stop), in order.

        Scores are NaN also where a row has no vector, spreads where a measure knows none: a row
        without a vector is no candidate whatever measures it.
        """
        for at, scores in self.scores_of(start, stop):
            if not self.linear:  # a linear score is NaN there already
                ok = self.inputs.features.ok(start=at, stop=at + len(scores))
                bare = (at + np.flatnonzero(~ok)).tolist()
                self.missing.update(dict.fromkeys(bare, "no_vector"))
                scores = np.where(ok, scores, np.float32(np.nan))
            if scores.ndim == 1:
                scores = np.stack([scores, np.full_like(scores, np.nan)], axis=1)
            if len(scores):
                yield scores

    def as_table(self, start: int, logit: np.ndarray) -> pa.Table:
        """The rows from `start` on, of what `scores` gave; forgets their reasons."""
        columns: dict[str, Any] = {"logit": logit[:, 0]}
        if self.linear:
            columns["spread"] = logit[:, 1]
        else:
            reason = np.full(len(logit), "", object)
            for place in np.flatnonzero(np.isnan(logit[:, 0])).tolist():
                reason[place] = self.missing.get(start + place, "no_score")
            columns["reason"] = reason
            self.missing.clear()
        return pa.table(columns, schema=self.schema)


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
    found = context.workspace.find("score", key)
    if found is None or arithmetic_of(found.data) != arithmetic_of(context.out):
        return None
    return found
