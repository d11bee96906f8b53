"""The ablation: measure x strategy, one row for every selection that was made; nothing that was not run.

In the shape of the paper's Table 2, with what can be said before any training: planted truth, diversity and distance to
the robot data. Benchmark success is filled in where a policy was trained on the selection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from emt_core.artifact import Artifact, Workspace
from emt_core.index import Index
from emt_core.selection.order import Purpose, ordered_rows, random_keys
from emt_core.trust.config import TrustConfig
from emt_core.trust.planted import NEAR, UNKNOWN, planted_truth

TRUTH_ROWS = 20_000
"""Selected rows, and pool rows for the chance level, that planted truth is read of at the most (seeded)."""

MEASURES = {
    "random": "random",
    "distance": "average feature distance",
    "perplexity": "VLA-conditioned perplexity",
    "delta_perplexity": "delta perplexity",
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
"""Table 2 of the paper (InternVL3.5-1B): measure, CALVIN average length, SimplerEnv-Bridge %, LIBERO-10 %."""


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    label: str
    measure: str
    kind: str
    """Key of MEASURES."""

    strategy: str
    selected: int
    planted: float | None
    """Share of near content among the selected rows whose truth is known; None where no sample tells."""

    planted_rows: int
    chance: float | None
    """The same share of all pool rows: what a blind choice gives."""

    diversity: float | None
    mmd2: float | None
    seconds: float
    """Measure, score and selection together."""

    peak_memory_mb: int
    """Resident set of the process at its highest; a floor of about 1 GB is what imported libraries take."""

    success: dict[str, float]
    """Benchmark -> mean success of policies trained on the selection; empty where none was."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ablation(workspace: Workspace, done: Mapping[str, Artifact]) -> list[AblationRow]:
    """A row a finished selection, measures in the paper's order. done: label -> artifact (`lineage.finished`)."""
    truth = next((a for a in done.values() if a.stage == "trust"), None)
    config = TrustConfig.model_validate(truth.config) if truth is not None else TrustConfig()
    success = _success(workspace, done)
    rows, chances = [], {}
    for label in (label for label, artifact in done.items() if artifact.stage == "select"):
        select = done[label]
        parents = workspace.parents(select)
        sources = parents["sources"]
        index = Index(sources)
        if sources.key not in chances:
            pool = np.flatnonzero(index.is_pool())
            chances[sources.key] = near_share(index, pool, config)[0]
        chosen = pq.read_table(select.data / "selected.parquet", columns=["row"]).column(0).to_numpy()
        planted, known = near_share(index, chosen, config)
        made = _made_by(workspace, parents)
        kind = _kind(select, made)
        took = [select, *made]
        metrics = select.metrics
        rows.append(
            AblationRow(
                label=label,
                measure=_name(select, made, kind),
                kind=kind,
                strategy=strategy_words(select.config),
                selected=metrics["selected"],
                planted=planted,
                planted_rows=known,
                chance=chances[sources.key],
                diversity=metrics["diversity"].get("after"),
                mmd2=metrics["mmd2_to_robot"].get("all", {}).get("after"),
                seconds=sum(a.manifest["seconds"] for a in took),
                peak_memory_mb=max(a.manifest["peak_memory_mb"] for a in took),
                success=success.get(select.key, {}),
            )
        )
    order = list(MEASURES)
    return sorted(rows, key=lambda row: (order.index(row.kind), row.measure, row.strategy != "top", row.label))


def near_share(index: Index, rows: np.ndarray, config: TrustConfig) -> tuple[float | None, int]:
    """(share of near content, rows whose truth is known) of a seeded sample of these rows."""
    drawn = np.sort(ordered_rows(random_keys(config.seed, np.asarray(rows, np.int64), Purpose.ABLATION), TRUTH_ROWS))
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
    """The measure in words; the settings that tell two of a kind apart."""
    config = made[1].config if made else {}
    more = [words for name, words in (("per_token", "per n-gram"), ("normalise", "cosine")) if config.get(name)]
    return MEASURES[kind] + (f" ({', '.join(more)})" if more else "")


def _success(workspace: Workspace, done: Mapping[str, Artifact]) -> dict[str, dict[str, float]]:
    """Selection key -> benchmark -> mean success over the runs (seeds) whose policy comes from it."""
    found: dict[str, dict[str, list[float]]] = {}
    for artifact in {a.path: a for a in done.values() if a.stage == "evaluate"}.values():
        select = _ancestor(workspace, artifact, "select")
        rate = artifact.metrics.get("success")
        if select is not None and isinstance(rate, int | float):
            name = str(artifact.metrics["benchmark"])
            found.setdefault(select.key, {}).setdefault(name, []).append(float(rate))
    return {key: {name: float(np.mean(v)) for name, v in by.items()} for key, by in found.items()}


def _ancestor(workspace: Workspace, artifact: Artifact, stage: str) -> Artifact | None:
    for parent in workspace.parents(artifact).values():
        found = parent if parent.stage == stage else _ancestor(workspace, parent, stage)
        if found is not None:
            return found
    return None


def markdown(rows: list[AblationRow]) -> str:
    """The table as Markdown, for docs and terminals."""
    benchmarks = sorted({name for row in rows for name in row.success})
    head = ["measure", "strategy", "selected", "planted", "S(D)", "MMD² after", "seconds", "peak MB", *benchmarks]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for row in rows:
        cells = [row.measure, row.strategy, f"{row.selected:,}"]
        cells += ["–" if row.planted is None else f"{row.planted:.1%}"]
        cells += ["–" if v is None else f"{v:.3f}" for v in (row.diversity, row.mmd2)]
        cells += [f"{row.seconds:.1f}", f"{row.peak_memory_mb:,}"]
        cells += [f"{row.success[name]:.1%}" if name in row.success else "–" for name in benchmarks]
        lines.append("| " + " | ".join(cells) + " |")
    chance = next((row.chance for row in rows if row.chance is not None), None)
    if chance is not None:
        lines.append(f"\nNear content in the whole pool (chance): {chance:.1%}.")
    return "\n".join(lines)
