"""trust: does the score mean what it seems to mean? Audits of one score, and its agreement with
others.

trust.json                  score, measure, sections: {modality, style, stability, calibration, agreement, planted}
disagreements.parquet       row measure percentile other_percentile higher: samples that measures rank most differently
stability.parquet           kind name spearman overlap: the score against the same measure fitted otherwise
out_of_fold.parquet         id score: every row with a vector, by an estimator that had not met it (measure `imported`
                            reads it); only for estimators that learn from negatives
variants/*.safetensors      features of the audits' restyled samples; an interrupted run goes on from them
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from emt_core.data.draws import Purpose, ordered_rows, random_keys
from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.models.encoders.reuse import source_config
from emt_core.proximity.base import AnyConfig, Inputs
from emt_core.proximity.trust.agreement import agreement
from emt_core.proximity.trust.calibration import calibration
from emt_core.proximity.trust.modality import audits
from emt_core.proximity.trust.planted import planted, planted_truth
from emt_core.proximity.trust.refit import ON_FEATURES, Shown, as_fitted
from emt_core.proximity.trust.stability import stability
from emt_core.proximity.trust.variants import embed_variants
from emt_core.recipe.embed import EmbedConfig
from emt_core.recipe.proximity import EstimatorConfig, measure_config
from emt_core.recipe.trust import TrustConfig
from emt_core.run.stage import Context, Outcome
from emt_core.workspace.artifact import Artifact, read_json, write_json
from emt_core.workspace.table import Table

VERSION = 2
LEAST_OF_A_SET = 16
"""Robot frames of each set that the audits embed at the least."""

STAND_IN = (
    "This score is not worked out from these features ({kind}), so it cannot be asked about changed ones. What follows "
    "audits a linear estimator on the same features in its place: it tells of the features and the data, not of the "
    "score."
)
STREAMED = (
    "Left out of the audits: {names}, read as a stream. A stream is gone once read, so its images cannot be embedded "
    "again."
)


def run(context: Context) -> Outcome:
    config = context.config
    assert isinstance(config, TrustConfig)
    index = Index(context.parents["sources"])
    score = context.parents["score"]
    stored = Features.at(context.parents["embed"].data / "features.lance")
    features = Shown(
        stored.table, stored.ok()
    )  # every fit asks which rows have a vector: read it once
    made_by = _made_by(context, score)
    logit = _logit(score)
    names = [_name(score, made_by), *config.compare]
    scores = dict(
        zip(
            names,
            [logit, *(_logit(context.parents[f"score.{n}"]) for n in config.compare)],
            strict=True,
        )
    )
    if len(scores) < len(names):
        raise EmtError(
            f"a score is compared with itself: {names}",
            where="trust.compare",
            remedy="name other scores than the parent",
        )
    ok = (
        index.is_pool()
        & features.ok()
        & np.all([np.isfinite(values) for values in scores.values()], axis=0)
    )
    rows = np.sort(
        ordered_rows(
            random_keys(config.seed, np.flatnonzero(ok), Purpose.TRUST), config.sample_rows
        )
    )
    if len(rows) < 10:
        raise EmtError(
            f"only {len(rows)} pool samples have every score",
            where="trust",
            remedy="compare fewer scores",
        )
    sampled = {name: values[rows] for name, values in scores.items()}
    sections: dict[str, Any] = {}
    inputs = Inputs(
        index=index,
        features=features,
        embed=context.parents["embed"],
        base=context.base,
        runtime=context.runtime,
        progress=context.progress,
    )
    measure: AnyConfig
    if made_by.stage == "estimator":
        measure = EstimatorConfig.model_validate(made_by.config)
    else:
        measure = measure_config(**made_by.config)
    sections |= _audits(context, inputs, config, measure, made_by)
    sections["stability"], table, apart = stability(
        measure, inputs, rows, sampled[names[0]], config
    )
    if table["kind"]:
        parquet.write_table(pa.table(table), context.out / "stability.parquet")
    if apart is not None:
        write_scores(index, apart, context.out / "out_of_fold.parquet")
    curves = made_by.data / "curves.json"
    sections["calibration"] = calibration(
        logit[ok],
        read_json(curves) if curves.exists() else None,
        made_by.metrics,
        is_logit=made_by.metrics.get("is_logit", True),
    )
    sections["agreement"], most = agreement(
        sampled, rows, top_share=config.top_share, shown=config.disagreements
    )
    parquet.write_table(pa.table(most, schema=DISAGREEMENTS), context.out / "disagreements.parquet")
    truth, style = planted_truth(index, rows, config)
    sections["planted"] = planted(sampled, truth, style, top_share=config.top_share)
    report = {"score": names[0], "measure": measure.kind, "sections": sections}
    write_json(context.out / "trust.json", report)
    return Outcome(rows=len(rows), metrics=_summary(report))


DISAGREEMENTS = pa.schema(
    [
        ("row", pa.int64()),
        ("measure", pa.string()),
        ("percentile", pa.float64()),
        ("other_percentile", pa.float64()),
        ("higher", pa.bool_()),
    ]
)


def _audits(
    context: Context, inputs: Inputs, config: TrustConfig, measure: AnyConfig, made_by: Artifact
) -> dict[str, Any]:
    """Modality and style sections, of the measure itself or of a linear stand-in where it works on
    no features."""
    if not config.pool_rows:
        return {}
    embed, index = context.parents["embed"], inputs.index
    streams = [
        source.name for source in index.sources if source_config(index, source).get("streaming")
    ]
    rows = audit_rows(index, inputs.features, config, without=streams)
    variants = embed_variants(
        index,
        rows,
        EmbedConfig.model_validate(embed.config),
        config,
        base=context.base,
        revision=(embed.manifest["identity"] or {}).get("revision"),
        out=context.out / "variants",
        runtime=context.runtime,
        progress=context.progress,
    )
    notes = [STREAMED.format(names=", ".join(streams))] if streams else []
    if measure.kind in ON_FEATURES:
        shipped = as_fitted(measure, made_by.data, inputs.features.dim)
        modality, style = audits(variants, measure, inputs, config, shipped=shipped, notes=notes)
    else:
        notes.append(STAND_IN.format(kind=measure.kind))
        modality, style = audits(
            variants, EstimatorConfig(), inputs, config, shipped=None, notes=notes
        )
    return {"modality": modality, "style": style}


def audit_rows(
    index: Index, features: Features, config: TrustConfig, *, without: Sequence[str] = ()
) -> np.ndarray:
    """int64, ascending: a seeded draw of pool rows with an image and a vector, and of each robot
    set's frames, one of every episode before a second of any. without: sources that are left
    out."""
    ok = features.ok() & (index.table.column("n_images") > 0)
    for source in index.sources:
        if source.name in without:
            ok[source.start : source.stop] = False
    drawn = [
        ordered_rows(
            random_keys(config.seed, np.flatnonzero(ok & index.is_pool()), Purpose.AUDIT),
            config.pool_rows,
        )
    ]
    robots = index.of_role("robot")
    for source in robots:
        there = source.start + np.flatnonzero(ok[source.start : source.stop])
        there = ordered_rows(random_keys(config.seed, there, Purpose.AUDIT), len(there))
        episode = index.table.column("episode", start=source.start, stop=source.stop)[
            there - source.start
        ]
        many = max(config.robot_rows // len(robots), LEAST_OF_A_SET)
        drawn.append(there[np.argsort(_turn(episode), kind="stable")][:many])
    return np.sort(np.concatenate(drawn))


def _turn(episode: np.ndarray) -> np.ndarray:
    """int64 [n]: how many rows before it are of the same episode."""
    order = np.argsort(episode, kind="stable")
    _, first, counts = np.unique(episode[order], return_index=True, return_counts=True)
    turn = np.empty(len(episode), np.int64)
    turn[order] = np.arange(len(episode)) - np.repeat(first, counts)
    return turn


def write_scores(index: Index, scores: np.ndarray, path: Path) -> None:
    """Parquet of id and score (float32) of the rows that have one, as measure `imported` reads
    it."""
    schema = pa.schema([("id", pa.string()), ("score", pa.float32())])
    at = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for batch in index.table.scan(["id"]):
            part = scores[at : at + batch.num_rows]
            found = pa.table({"id": batch.column(0), "score": part}, schema=schema)
            writer.write_table(found.filter(pa.array(np.isfinite(part))))
            at += batch.num_rows


def _made_by(context: Context, score: Artifact) -> Artifact:
    parents = context.workspace.parents(score)
    return parents["estimator"] if "estimator" in parents else parents["measure"]


def _name(score: Artifact, made_by: Artifact) -> str:
    label = score.manifest["labels"][0].partition("@")[0].partition(".")[2]
    return label or made_by.metrics.get("kind", "learned")


def _logit(score: Artifact) -> np.ndarray:
    return Table(score.data / "scores.lance").column("logit")


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    """Verdicts by section, and the planted truth of each measure (the ablation's column): what
    lists show."""
    verdicts = {
        name: [n["verdict"] for n in section["numbers"]]
        for name, section in report["sections"].items()
    }
    planted_by = report["sections"]["planted"].get("measures", {})
    return {
        "score": report["score"],
        "measure": report["measure"],
        "verdicts": verdicts,
        "planted": {
            name: {"auroc": f["auroc"], "precision": f["precision"]}
            for name, f in planted_by.items()
        },
    }
