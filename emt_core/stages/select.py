"""select: the mid-training set. Who is in, who is out, and why.

A recipe without embed and category can select by `random` and `all`. Then an image that cannot be
decoded is found by midtrain, and the report measures neither diversity nor distance.

selection.lance     reason string ("" = selected), rank int64 (0 = best, -1 = not selected);
                    row i = index row i
selected.parquet    row rank logit id source category, in rank order (logit NaN where nothing was
                    ranked, category "" where the recipe names none)
report.json         counts by reason; composition, diversity, distance to robot data and scores,
                    before and after (selection/report.py)

It takes seconds, because features are only sampled, for the report: an interrupted run starts
again. Only `clusters` reads all features, and near-duplicates take minutes a million rows.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.proximity.reference import Reference
from emt_core.recipe.ids import parse_ids
from emt_core.recipe.selection import SelectConfig
from emt_core.run.plan import Instance
from emt_core.run.stage import Context, Outcome
from emt_core.selection import Candidates, Decision, decide
from emt_core.selection.candidates import could_be_selected, named_codes
from emt_core.selection.clusters import CELL_ROWS, ROUNDS, assign_cells, fit_cells, near_duplicates
from emt_core.selection.decide import ordered, rank_score
from emt_core.selection.report import selection_report
from emt_core.selection.scored_pool import candidates_of, no_spread
from emt_core.workspace.files import write_json
from emt_core.workspace.progress import Progress
from emt_core.workspace.table import Table

VERSION = 3
WRITE_ROWS = 1_000_000
SELECTION_SCHEMA = pa.schema({"reason": pa.string(), "rank": pa.int64()})
SELECTED_SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "rank": pa.int64(),
        "logit": pa.float32(),
        "id": pa.string(),
        "source": pa.string(),
        "category": pa.string(),
    }
)


def identity(config: SelectConfig, base: Path) -> dict[str, int] | None:
    """What near-duplicates depend on beside the config; None for selections that keep them."""
    if config.clusters is None or config.clusters.duplicate_cosine is None:
        return None
    return {"cell_rows": CELL_ROWS}


def check(instance: Instance, base: Path) -> None:
    """Raises EmtError for a source that is named and that nobody reads, and for a penalty on the
    spread of a score that has none."""
    config = instance.config
    assert isinstance(config, SelectConfig)
    if config.spread_penalty:
        estimator = instance.parents["score"].parents.get("estimator")
        seeds = estimator.config.seeds if estimator else 1  # type: ignore[attr-defined]
        if seeds < 2:
            raise no_spread()
    pool = tuple(source.name for source in instance.sources.sources if source.role == "pool")
    named_codes(config.caps.source, pool, list(pool), "caps.source")
    named_codes(config.quotas.source, pool, list(pool), "quotas.source")
    everywhere = tuple(source.name for source in instance.sources.sources)
    excluded = {parse_ids(entry).source for entry in config.exclude}
    named_codes(excluded, everywhere, list(everywhere), "exclude")


def run(context: Context) -> Outcome:
    """Raises EmtError where nothing is left, or a cap or quota names something unknown."""
    config = context.config
    assert isinstance(config, SelectConfig)
    parents = context.parents
    index = Index(parents["sources"])
    embed = parents.get("embed")
    features = Features.at(embed.data / "features.lance") if embed else None
    candidates = candidates_of(
        parents["sources"],
        embed,
        parents.get("category"),
        parents.get("score"),
        exclude=config.exclude,
        spread=config.spread_penalty > 0,
    )
    candidates, split = with_cells(candidates, features, config, context.progress)
    decision = decide(candidates, config)
    require_rows(decision, candidates, config)
    if decision.asked is not None and len(decision.rows) < decision.asked:
        context.progress.say(
            f"asked for {decision.asked:,}, found {len(decision.rows):,}: see report.json"
        )
    _write_selection(context, decision)
    _write_selected(context, decision, candidates, index)
    reference = features and Reference(index=index, features=features, ok=candidates.has_vector)
    report = selection_report(decision, candidates, reference, config) | split
    write_json(context.out / "report.json", report)
    return Outcome(rows=candidates.rows, metrics=summary(report))


def with_cells(
    candidates: Candidates, features: Features | None, config: SelectConfig, progress: Progress
) -> tuple[Candidates, dict[str, Any]]:
    """(the candidates with the cells and near-duplicates that the config asks for, report entry).

    The report entry says which cells were too large to compare whole.
    """
    if config.clusters is None:
        return candidates, {}
    assert features is not None  # such a config asks for embed
    code, _ = candidates.not_eligible(include_text_only=config.include_text_only)
    free = code == 0
    if not free.any():
        return candidates, {}
    rows = np.flatnonzero(free)
    with progress.track("fitting cells", ROUNDS, unit="rounds") as tracker:
        centers = fit_cells(
            features, rows, config.clusters, seed=config.seed, advance=tracker.advance
        )
    with progress.track("finding cells", features.rows) as tracker:
        cell = assign_cells(features, centers, advance=tracker.advance)
    if config.clusters.duplicate_cosine is None:
        return replace(candidates, cell=cell), {}
    order = ordered(candidates, config, free)
    with progress.track("comparing", len(order)) as tracker:
        duplicate, split = near_duplicates(
            features,
            order,
            cell,
            cosine=config.clusters.duplicate_cosine,
            seed=config.seed,
            cell_rows=CELL_ROWS,
            advance=tracker.advance,
        )
    if split:
        progress.say(
            f"{len(split)} cells of more than {CELL_ROWS:,} rows were split: see report.json"
        )
    entry = {"cell_rows": CELL_ROWS, "split_cells": [asdict(one) for one in split]}
    return replace(candidates, cell=cell, duplicate=duplicate), {"near_duplicates": entry}


def require_rows(decision: Decision, candidates: Candidates, config: SelectConfig) -> None:
    """Raises EmtError that says what removed how many, where nothing is left."""
    if len(decision.rows):
        return
    counts = ", ".join(f"{reason} {count:,}" for reason, count in sorted(decision.counts().items()))
    if decision.eligible == 0:
        remedy = (
            "no pool row may be selected: look at the reasons; "
            "include_text_only: true lets text-only rows in"
        )
    elif config.threshold is not None:
        free = could_be_selected(decision.code, decision.reasons)
        best = float(rank_score(candidates, config)[free].max())
        less = f" less {config.spread_penalty:g} x spread" if config.spread_penalty else ""
        remedy = f"lower the threshold ({config.threshold:g}): the best logit{less} is {best:.4g}"
    else:
        remedy = f"{decision.eligible:,} rows could be selected: loosen caps or quotas"
    raise EmtError(f"the selection is empty; left out: {counts}", where="select", remedy=remedy)


def _write_selection(context: Context, decision: Decision) -> None:
    path = context.out / "selection.lance"
    shutil.rmtree(path, ignore_errors=True)
    table = Table(path)
    rank = np.full(len(decision.code), -1, np.int64)
    rank[decision.rows] = np.arange(len(decision.rows))
    names = pa.array(decision.reasons, pa.string())
    with context.progress.track("writing", len(rank)) as tracker:
        for start in range(0, len(rank), WRITE_ROWS):
            part = slice(start, start + WRITE_ROWS)
            reason = names.take(pa.array(decision.code[part]))
            table.append(pa.table([reason, pa.array(rank[part])], schema=SELECTION_SCHEMA))
            tracker.advance(len(reason))


def _write_selected(
    context: Context, decision: Decision, candidates: Candidates, index: Index
) -> None:
    sources = pa.array(candidates.sources, pa.string())
    categories = pa.array(candidates.categories or ("",), pa.string())
    category = candidates.category
    if category is None:
        category = np.zeros(candidates.rows, np.int8)
    ids, place = _ids(index, decision.rows)
    with pq.ParquetWriter(context.out / "selected.parquet", SELECTED_SCHEMA) as writer:
        for start in range(0, len(decision.rows), WRITE_ROWS):
            part = slice(start, start + WRITE_ROWS)
            rows = decision.rows[part]
            logit = np.full(len(rows), np.nan, np.float32)
            if candidates.logit is not None:
                logit = candidates.logit[rows]
            columns = [
                pa.array(rows),
                pa.array(np.arange(start, start + len(rows))),
                pa.array(logit),
                ids.take(pa.array(place[part])).cast(pa.string()),
                sources.take(pa.array(candidates.source[rows])),
                categories.take(pa.array(category[rows])),
            ]
            writer.write_table(pa.table(columns, schema=SELECTED_SCHEMA))


def _ids(index: Index, rows: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """(ids of the chosen rows in index order, place of each row's id in them).

    By one sequential scan instead of a million random reads. As `large_string`, because a `string`
    array ends at 2 GB, about 10^8 ids.
    """
    chosen = np.zeros(index.rows, bool)
    chosen[rows] = True
    ids = []
    at = 0
    for batch in index.table.scan(["id"]):
        kept = batch.column(0).filter(pa.array(chosen[at : at + batch.num_rows]))
        ids.append(kept.cast(pa.large_string()))
        at += batch.num_rows
    return pa.concat_arrays(ids), np.cumsum(chosen)[rows] - 1


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """What a page lists of a selection without opening its report."""
    names = "asked eligible selected cut_logit reasons shortfall diversity mmd2_to_robot errors"
    return {name: report[name] for name in [*names.split(), "embodied_share"]}
