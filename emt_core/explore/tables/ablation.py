"""The ablation table: measures x strategies, one row per selection that was made.

As the paper's Table 2, with what is known before any training: relevant content (planted truth),
diversity and distance to robot data. Benchmark success is there if a policy was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from emt_core.data.draws import Purpose, ordered_rows, random_keys
from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.explore.tables.measured import Measured, measured
from emt_core.proximity.reference import Reference
from emt_core.proximity.trust.planted import NEAR, UNKNOWN, planted_truth
from emt_core.recipe.trust import TrustConfig
from emt_core.workspace.artifact import Artifact, Workspace

TRUTH_ROWS = 20_000
"""At most this many selected rows (and pool rows, for chance) are checked for planted truth."""

MEASURES = {
    "random": "random",
    "distance": "average feature distance",
    "perplexity": "VLA-conditioned perplexity",
    "delta_perplexity": "delta perplexity",
    "gradient": "gradient cosine",
    "linear": "learned estimator",
    "knn": "k-th nearest frame",
    "mlp": "learned estimator (MLP)",
    "dsir": "DSIR on text",
    "clip": "CLIP image-text",
    "imported": "imported score",
    "all": "whole pool",
}

PAPER = (
    ("random", 3.398, 43.8, 48.4),
    ("average feature distance", 3.126, 53.1, 51.2),
    ("VLA-conditioned perplexity", 3.159, 55.2, 48.0),
    ("delta perplexity", 1.527, 39.6, 54.2),
    ("learned estimator", 3.714, 56.3, 54.2),
)
"""The paper's Table 2: measure, CALVIN average length, SimplerEnv-Bridge %, LIBERO-10 %."""


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    label: str
    measure: str
    kind: str
    """Key of MEASURES."""

    strategy: str
    selected: int
    planted: float | None
    """Share of relevant content among the selected rows with known truth; None without any."""

    planted_rows: int
    """Selected rows with known truth."""

    chance: float | None
    """The same share of the pool that may be selected."""

    diversity: Measured
    mmd2: Measured
    seconds: float
    """Measure, score and selection together, with work shared with a twin measure."""

    memory_added_mb: int | None
    """The most that measuring, scoring or selecting added to the process; None if unrecorded."""

    peak_memory_mb: int
    """Peak of the whole process; it depends on the stages that ran before."""

    success: dict[str, float]
    """Benchmark -> mean success of policies trained on the selection."""

    average_length: dict[str, float]
    """Benchmark -> mean number of goals completed per chain (CALVIN)."""


def ablation(workspace: Workspace, done: Mapping[str, Artifact]) -> list[AblationRow]:
    """A row per finished selection, measures in the paper's order. done: label -> artifact."""
    truth = next((a for a in done.values() if a.stage == "trust"), None)
    config = TrustConfig.model_validate(truth.config) if truth is not None else TrustConfig()
    success = _means(workspace, done, "success")
    lengths = _means(workspace, done, "average_length")
    rows = []
    chances: dict[str, float | None] = {}
    for label in (label for label, artifact in done.items() if artifact.stage == "select"):
        select = done[label]
        parents = workspace.parents(select)
        index = Index(parents["sources"])
        embed = parents.get("embed")
        if embed is not None and embed.key not in chances:
            features = Features.at(embed.data / "features.lance")
            pool = Reference(index=index, features=features, ok=features.ok()).pool
            chances[embed.key] = near_share(index, pool, config)[0]
        chosen = pq.read_table(select.data / "selected.parquet", columns=["row"]).column(0)
        planted, known = near_share(index, chosen.to_numpy(), config)
        made = _made_by(workspace, parents)
        kind = _kind(select, made)
        took = [select, *made]
        metrics = select.metrics
        length = lengths.get(select.key, {})
        added = [a.manifest["memory_added_mb"] for a in took if "memory_added_mb" in a.manifest]
        rows.append(
            AblationRow(
                label=label,
                measure=_name(select, made, kind),
                kind=kind,
                strategy=strategy_words(select.config),
                selected=metrics["selected"],
                planted=planted,
                planted_rows=known,
                chance=chances[embed.key] if embed else None,
                diversity=measured(metrics, "diversity", "after"),
                mmd2=measured(metrics, "mmd2_to_robot", "all", "after"),
                seconds=sum(map(_seconds, took)),
                memory_added_mb=max(added) if len(added) == len(took) else None,
                peak_memory_mb=max(a.manifest["peak_memory_mb"] for a in took),
                success={n: v for n, v in success.get(select.key, {}).items() if n not in length},
                average_length=length,
            )
        )
    order = list(MEASURES)
    return sorted(
        rows, key=lambda row: (order.index(row.kind), row.measure, row.strategy != "top", row.label)
    )


def _seconds(artifact: Artifact) -> float:
    shared = artifact.metrics.get("shared") or {}
    return artifact.manifest["seconds"] + shared.get("seconds", 0.0)


def near_share(index: Index, rows: np.ndarray, config: TrustConfig) -> tuple[float | None, int]:
    """(share of relevant content, rows with known truth) in a seeded sample of these rows."""
    keys = random_keys(config.seed, np.asarray(rows, np.int64), Purpose.ABLATION)
    drawn = np.sort(ordered_rows(keys, TRUTH_ROWS))
    truth, _ = planted_truth(index, drawn, config)
    known = int((truth != UNKNOWN).sum())
    return (float((truth == NEAR).sum() / known) if known else None), known


def strategy_words(config: Mapping[str, Any]) -> str:
    """`top`, `gumbel, T = 1`, `top, 20 % random`, ... as the selection was configured."""
    words = [config["strategy"]]
    if config["strategy"] == "gumbel":
        words.append(f"T = {config.get('temperature', 1.0):g}")
    if config.get("random_share"):
        words.append(f"{config['random_share']:.0%} random")
    if config.get("spread_penalty"):
        words.append(f"minus {config['spread_penalty']:g} x spread")
    if clusters := config.get("clusters"):
        if clusters["most"] is not None:
            words.append(f"{clusters['cells']} cells, cap {clusters['most']:g}x")
        if clusters["duplicate_cosine"] is not None:
            words.append(f"no duplicates at {clusters['duplicate_cosine']:g}")
    for what in ("quotas", "caps"):
        words += [f"{what} by {by}" for by, given in config.get(what, {}).items() if given]
    return ", ".join(words)


def _made_by(workspace: Workspace, parents: Mapping[str, Artifact]) -> list[Artifact]:
    if "score" not in parents:
        return []
    score = parents["score"]
    above = workspace.parents(score)
    return [score, above["estimator"] if "estimator" in above else above["measure"]]


def _kind(select: Artifact, made: list[Artifact]) -> str:
    if not made:
        return "all" if select.config["strategy"] == "all" else "random"
    return made[1].config["kind"]


def _name(select: Artifact, made: list[Artifact], kind: str) -> str:
    """The measure in words, with the settings that distinguish two of a kind."""
    config = made[1].config if made else {}
    words = {"per_token": "per n-gram", "normalize": "cosine"}
    more = [word for name, word in words.items() if config.get(name)]
    return MEASURES.get(kind, kind) + (f" ({', '.join(more)})" if more else "")


def _means(
    workspace: Workspace, done: Mapping[str, Artifact], metric: str
) -> dict[str, dict[str, float]]:
    """Selection key -> benchmark -> mean of a metric over the runs trained on the selection."""
    values: dict[str, dict[str, list[float]]] = {}
    for artifact in {a.path: a for a in done.values() if a.stage == "evaluate"}.values():
        select = _ancestor(workspace, artifact, "select")
        value = artifact.metrics.get(metric)
        if select is not None and isinstance(value, int | float):
            of_selection = values.setdefault(select.key, {})
            of_selection.setdefault(str(artifact.metrics["benchmark"]), []).append(float(value))
    return {
        key: {name: float(np.mean(found)) for name, found in by_benchmark.items()}
        for key, by_benchmark in values.items()
    }


def _ancestor(workspace: Workspace, artifact: Artifact, stage: str) -> Artifact | None:
    for parent in workspace.parents(artifact).values():
        ancestor = parent if parent.stage == stage else _ancestor(workspace, parent, stage)
        if ancestor is not None:
            return ancestor
    return None


def table(rows: list[AblationRow]) -> list[dict[str, Any]]:
    """The rows as dicts, the same in the app and in a terminal; None where unknown."""
    rates = sorted({name for row in rows for name in row.success})
    lengths = sorted({name for row in rows for name in row.average_length})
    return [
        {
            "measure": row.measure,
            "strategy": row.strategy,
            "selection": row.label.partition(".")[2] or row.label,
            "selected": row.selected,
            "relevant content": row.planted,
            "diversity": row.diversity.text,
            "MMD² to robot": row.mmd2.text,
            "seconds": row.seconds,
            "memory added, MB": row.memory_added_mb,
            "peak memory, MB": row.peak_memory_mb,
            **{f"{name}, success": row.success.get(name) for name in rates},
            **{f"{name}, average length": row.average_length.get(name) for name in lengths},
        }
        for row in rows
    ]


FORMATS = {
    "selected": ",",
    "relevant content": ".1%",
    "seconds": ".1f",
    "memory added, MB": ",",
    "peak memory, MB": ",",
}
"""Formats of number columns; those of benchmarks follow from the end of their names."""


def markdown(rows: list[AblationRow]) -> str:
    """The table as Markdown, for docs and terminals."""
    written = [{name: _cell(name, value) for name, value in row.items()} for row in table(rows)]
    cells = [list(written[0]), *(list(row.values()) for row in written)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    lines.insert(1, "|" + "|".join("---" if name in WORDS else "---:" for name in written[0]) + "|")
    chance = next((row.chance for row in rows if row.chance is not None), None)
    if chance is not None:
        lines.append(f"\nRelevant content in the whole pool (chance): {chance:.1%}.")
    return "\n".join(lines)


WORDS = ("measure", "strategy", "selection")


def _cell(column: str, value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or "–"
    return format(value, FORMATS.get(column, ".1%" if column.endswith("success") else ".2f"))
