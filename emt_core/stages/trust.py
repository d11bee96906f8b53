"""trust: does the score mean what it seems to mean? Audits of one score, and a comparison.

trust.json              score, measure, and the sections modality, style, stability, calibration,
                        agreement and planted
disagreements.parquet   row measure percentile other_percentile higher: samples that two measures
                        rank most differently
stability.parquet       kind name spearman overlap: the score against the same measure fitted again
out_of_fold.parquet     id score: every row with a vector, by an estimator that had not met it; only
                        for estimators that learn from negatives (measure `imported` reads it)
variants/*.safetensors  features of the audits' restyled samples; an interrupted run reuses them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from emt_core.data.draws import Purpose, ordered_rows, random_keys
from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.models.device import arithmetic_of
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
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.files import read_json, write_json
from emt_core.workspace.table import Table

VERSION = 3

LEAST_OF_A_SET = 16
"""Robot frames of each set that the audits embed at the least."""

DISAGREEMENTS = pa.schema(
    {
        "row": pa.int64(),
        "measure": pa.string(),
        "percentile": pa.float64(),
        "other_percentile": pa.float64(),
        "higher": pa.bool_(),
    }
)
STAND_IN = (
    "This score is not worked out from these features ({kind}), so it cannot be asked about "
    "changed ones. What follows audits a linear estimator on the same features in its place: it "
    "tells of the features and the data, not of the score."
)
STREAMED = (
    "Left out of the audits: {names}, read as a stream. A stream is gone once read, so its images "
    "cannot be embedded again."
)


def run(context: Context) -> Outcome:
    """Raises EmtError where a score is compared with itself or too few rows have every score."""
    config = context.config
    assert isinstance(config, TrustConfig)
    inputs = Inputs.of(context)
    index = inputs.index
    # every fit asks which rows have a vector: read it once
    features = Shown(inputs.features.table, inputs.features.ok())
    inputs = replace(inputs, features=features)
    made_by = _made_by(context)
    measure: AnyConfig
    if made_by.stage == "estimator":
        measure = EstimatorConfig.model_validate(made_by.config)
    else:
        measure = measure_config(**made_by.config)

    scores = _scores(context, made_by, config.compare)
    name, logit = next(iter(scores.items()))
    scored = np.all([np.isfinite(values) for values in scores.values()], axis=0)
    ok = index.is_pool() & features.ok() & scored
    keys = random_keys(config.seed, np.flatnonzero(ok), Purpose.TRUST)
    rows = np.sort(ordered_rows(keys, config.sample_rows))
    if len(rows) < 10:
        raise EmtError(
            f"only {len(rows)} pool samples have every score",
            where="trust",
            remedy="compare fewer scores",
        )
    sampled = {name: values[rows] for name, values in scores.items()}

    sections = _audits(context, inputs, config, measure, made_by)
    sections["stability"], repeated, out_of_fold = stability(
        measure, inputs, rows, sampled[name], config
    )
    if repeated["kind"]:
        parquet.write_table(pa.table(repeated), context.out / "stability.parquet")
    if out_of_fold is not None:
        write_scores(index, out_of_fold, context.out / "out_of_fold.parquet")
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
    report = {"score": name, "measure": measure.kind, "sections": sections}
    write_json(context.out / "trust.json", report)
    return Outcome(rows=len(rows), metrics=_summary(report))


def _made_by(context: Context) -> Artifact:
    """The estimator or measure that the score in question comes from."""
    parents = context.workspace.parents(context.parents["score"])
    return parents["estimator"] if "estimator" in parents else parents["measure"]


def _scores(context: Context, made_by: Artifact, compared: Sequence[str]) -> dict[str, np.ndarray]:
    """Name -> float32 [rows of the index]: the score in question first, then those to compare."""
    score = context.parents["score"]
    label = score.manifest["labels"][0].partition("@")[0].partition(".")[2]
    names = [label or made_by.metrics.get("kind", "learned"), *compared]
    if len(set(names)) < len(names):
        raise EmtError(
            f"a score is compared with itself: {names}",
            where="trust.compare",
            remedy="name other scores than the parent",
        )
    artifacts = [score, *(context.parents[f"score.{other}"] for other in compared)]
    columns = [Table(artifact.data / "scores.lance").column("logit") for artifact in artifacts]
    return dict(zip(names, columns, strict=True))


def _audits(
    context: Context, inputs: Inputs, config: TrustConfig, measure: AnyConfig, made_by: Artifact
) -> dict[str, Any]:
    """Modality and style sections.

    Of the measure itself, or of a linear stand-in where it works on no features.
    """
    if not config.pool_rows:
        return {}
    index = inputs.index
    embed = inputs.embed
    streams = [s.name for s in index.sources if index.config_of(s).get("streaming")]
    encoder = EmbedConfig.model_validate(embed.config)
    if made_in := arithmetic_of(embed.data):  # `auto` may be another here than it was there
        encoder = encoder.model_copy(update={"precision": made_in.dtype})
    variants = embed_variants(
        index,
        audit_rows(index, inputs.features, config, without=streams),
        encoder,
        config,
        base=context.base,
        revision=(embed.manifest["identity"] or {}).get("revision"),
        out=context.out / "variants",
        runtime=context.runtime,
        progress=context.progress,
    )
    notes = [STREAMED.format(names=", ".join(streams))] if streams else []
    shipped = None
    if measure.kind in ON_FEATURES:
        shipped = as_fitted(measure, made_by.data, inputs.features.dim)
    else:
        notes.append(STAND_IN.format(kind=measure.kind))
        measure = EstimatorConfig()
    modality, style = audits(variants, measure, inputs, config, shipped=shipped, notes=notes)
    return {"modality": modality, "style": style}


def audit_rows(
    index: Index, features: Features, config: TrustConfig, *, without: Sequence[str] = ()
) -> np.ndarray:
    """int64, ascending: a seeded draw of rows with an image and a vector, for the audits.

    `pool_rows` of the pool, and frames of each robot set: one of every episode before a second of
    any. without: names of sources that are left out.
    """

    def drawn(rows: np.ndarray, most: int) -> np.ndarray:
        return ordered_rows(random_keys(config.seed, rows, Purpose.AUDIT), most)

    ok = features.ok() & (index.table.column("n_images") > 0)
    for source in index.sources:
        if source.name in without:
            ok[source.start : source.stop] = False
    parts = [drawn(np.flatnonzero(ok & index.is_pool()), config.pool_rows)]
    robots = index.of_role("robot")
    for source in robots:
        local = np.flatnonzero(ok[source.start : source.stop])
        rows = drawn(source.start + local, len(local))
        episodes = index.table.column("episode", start=source.start, stop=source.stop)
        turn = _turn(episodes[rows - source.start])
        most = max(config.robot_rows // len(robots), LEAST_OF_A_SET)
        parts.append(rows[np.argsort(turn, kind="stable")][:most])
    return np.sort(np.concatenate(parts))


def _turn(episode: np.ndarray) -> np.ndarray:
    """int64 [n]: how many rows before it are of the same episode."""
    order = np.argsort(episode, kind="stable")
    _, first, counts = np.unique(episode[order], return_index=True, return_counts=True)
    turn = np.empty(len(episode), np.int64)
    turn[order] = np.arange(len(episode)) - np.repeat(first, counts)
    return turn


def write_scores(index: Index, scores: np.ndarray, path: Path) -> None:
    """Parquet of id and score (float32) of rows that have one, as measure `imported` reads it."""
    schema = pa.schema({"id": pa.string(), "score": pa.float32()})
    at = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for batch in index.table.scan(["id"]):
            part = scores[at : at + batch.num_rows]
            table = pa.table({"id": batch.column(0), "score": part}, schema=schema)
            writer.write_table(table.filter(pa.array(np.isfinite(part))))
            at += batch.num_rows


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    """What lists show: verdicts by section, and the planted truth of each measure."""
    sections = report["sections"]
    return {
        "score": report["score"],
        "measure": report["measure"],
        "verdicts": {
            name: [number["verdict"] for number in section["numbers"]]
            for name, section in sections.items()
        },
        "planted": {
            name: {"auroc": figures["auroc"], "precision": figures["precision"]}
            for name, figures in sections["planted"].get("measures", {}).items()
        },
    }
