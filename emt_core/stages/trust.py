"""trust: does the score mean what it seems to mean? Audits of one score, and its agreement with others.

trust.json               score, measure, sections: {modality, style, stability, calibration, agreement, planted}
disagreements.parquet       row measure percentile other_percentile higher: samples that measures rank most differently
stability.parquet           kind name spearman overlap: the score against the same estimator trained otherwise
variants/*.safetensors      features of the audits' restyled samples; an interrupted run goes on from them
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from emt_core.artifact import Artifact, read_json, write_json
from emt_core.errors import EmtError
from emt_core.index import Index
from emt_core.selection.order import Purpose, ordered_rows, random_keys
from emt_core.stage_config import EmbedConfig, EstimatorConfig
from emt_core.stages import Context, Outcome
from emt_core.store import Features, Table
from emt_core.trust.agreement import agreement
from emt_core.trust.calibration import calibration
from emt_core.trust.config import TrustConfig
from emt_core.trust.modality import audits
from emt_core.trust.planted import planted, planted_truth
from emt_core.trust.stability import stability
from emt_core.trust.variants import embed_variants

VERSION = 1
NO_TRAINING = "The score comes from a measure that is not trained step by step, so there is no training to repeat."


def run(context: Context) -> Outcome:
    config = context.config
    assert isinstance(config, TrustConfig)
    index = Index(context.parents["sources"])
    score = context.parents["score"]
    features = Features.at(context.parents["embed"].data / "features.lance")
    made_by = _made_by(context, score)
    logit = _logit(score)
    names = [_name(score, made_by), *config.compare]
    scores = dict(zip(names, [logit, *(_logit(context.parents[f"score.{n}"]) for n in config.compare)], strict=True))
    if len(scores) < len(names):
        raise EmtError(
            f"a score is compared with itself: {names}",
            where="trust.compare",
            remedy="name other scores than the parent",
        )
    ok = index.is_pool() & features.ok() & np.all([np.isfinite(values) for values in scores.values()], axis=0)
    rows = np.sort(ordered_rows(random_keys(config.seed, np.flatnonzero(ok), Purpose.TRUST), config.sample_rows))
    if len(rows) < 10:
        raise EmtError(f"only {len(rows)} pool samples have every score", where="trust", remedy="compare fewer scores")
    sampled = {name: values[rows] for name, values in scores.items()}
    sections: dict[str, Any] = {}
    estimator = EstimatorConfig.model_validate(made_by.config) if made_by.stage == "estimator" else None
    sections |= _audits(context, index, features, config, estimator, made_by)
    if estimator is None:
        sections["stability"] = {
            "title": "Stability",
            "question": "Would another training have chosen the same samples?",
            "numbers": [],
            "skipped": NO_TRAINING,
        }
    else:
        fits = config.seeds + len(config.stop_points) + len(index.of_role("robot")) + config.folds + 1
        with context.progress.track("training again", fits, unit="fits") as tracker:
            section, table = stability(
                index, features, rows, sampled[names[0]], estimator, config, on_fit=lambda: tracker.advance()
            )
        parquet.write_table(pa.table(table), context.out / "stability.parquet")
        sections["stability"] = section
    curves = made_by.data / "curves.json"
    sections["calibration"] = calibration(
        logit[ok],
        read_json(curves) if curves.exists() else None,
        made_by.metrics,
        is_logit=made_by.metrics.get("is_logit", True),
    )
    sections["agreement"], apart = agreement(sampled, rows, top_share=config.top_share, shown=config.disagreements)
    parquet.write_table(pa.table(apart, schema=DISAGREEMENTS), context.out / "disagreements.parquet")
    truth, style = planted_truth(index, rows, config)
    sections["planted"] = planted(sampled, truth, style, top_share=config.top_share)
    report = {"score": names[0], "measure": made_by.metrics.get("kind", "linear"), "sections": sections}
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
    context: Context,
    index: Index,
    features: Features,
    config: TrustConfig,
    estimator: EstimatorConfig | None,
    made_by: Artifact,
) -> dict[str, Any]:
    """Modality and style sections; the estimator's own settings, or the default ones where another measure scored."""
    if not config.pool_rows:
        return {}
    embed = context.parents["embed"]
    rows = audit_rows(index, features, config)
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
    shipped = _weights(made_by) if estimator is not None else None
    modality, style = audits(index, variants, estimator or EstimatorConfig(), config, shipped)
    return {"modality": modality, "style": style}


def audit_rows(index: Index, features: Features, config: TrustConfig) -> np.ndarray:
    """int64, ascending: a seeded draw of pool rows with an image and a vector, and of each robot set's frames."""
    ok = features.ok() & (index.table.column("n_images") > 0)
    drawn = [
        ordered_rows(random_keys(config.seed, np.flatnonzero(ok & index.is_pool()), Purpose.AUDIT), config.pool_rows)
    ]
    robots = index.of_role("robot")
    for source in robots:
        there = source.start + np.flatnonzero(ok[source.start : source.stop])
        drawn.append(
            ordered_rows(random_keys(config.seed, there, Purpose.AUDIT), max(config.robot_rows // len(robots), 2))
        )
    return np.sort(np.concatenate(drawn))


def _made_by(context: Context, score: Artifact) -> Artifact:
    parents = context.workspace.parents(score)
    return parents["estimator"] if "estimator" in parents else parents["measure"]


def _weights(estimator: Artifact) -> tuple[np.ndarray, float]:
    from safetensors.numpy import load_file

    stored = load_file(estimator.data / "weights.safetensors")
    return stored["weight"].astype(np.float64), float(stored["bias"][0])


def _name(score: Artifact, made_by: Artifact) -> str:
    label = score.manifest["labels"][0].partition("@")[0].partition(".")[2]
    return label or made_by.metrics.get("kind", "learned")


def _logit(score: Artifact) -> np.ndarray:
    return Table(score.data / "scores.lance").column("logit")


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    """Verdicts by section, and the planted truth of each measure (the ablation's column): what lists show."""
    verdicts = {name: [n["verdict"] for n in section["numbers"]] for name, section in report["sections"].items()}
    planted_by = report["sections"]["planted"].get("measures", {})
    return {
        "score": report["score"],
        "measure": report["measure"],
        "verdicts": verdicts,
        "planted": {name: {"auroc": f["auroc"], "precision": f["precision"]} for name, f in planted_by.items()},
    }
