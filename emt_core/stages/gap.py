"""gap: how far pool and robot data lie apart (method sections 3 and 7), and a 2-D map of every
sample.

gap.json               sources, mmd2, mmd2_normalized, sigma, sampled, diversity, diversity_groups, groups, left_out
map_fit.safetensors    the fitted map: index rows, PCA, their coordinates (what places any other feature)
map.lance              x, y float32 (NaN without a vector), fitted bool; row order of the index

MMD and diversity come from a seeded subsample of each source. "All pool" and "all robot" are
mixtures of their sources by number of rows, worked out from the same kernel means: no subsample of
their own, no small source lost in one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from emt_core.data.draws import choose, spread
from emt_core.data.features import Features, take_finite
from emt_core.data.index import Index, SourceRange
from emt_core.errors import EmtError
from emt_core.proximity.map.fitted import FittedMap
from emt_core.proximity.metrics import diversity, mmd
from emt_core.recipe.embed import GapConfig
from emt_core.run.stage import Context, Outcome
from emt_core.workspace.artifact import read_json, write_json
from emt_core.workspace.table import Table

VERSION = 2

PLACE_ROWS = 4096


@dataclass(frozen=True)
class Members:
    """A source and its rows that have a vector."""

    source: SourceRange
    rows: np.ndarray


def run(context: Context) -> Outcome:
    config = context.config
    assert isinstance(config, GapConfig)
    index = Index(context.parents["sources"])
    features = Features.at(context.parents["embed"].data / "features.lance")
    ok = features.ok()
    members = [Members(s, np.flatnonzero(ok[s.start : s.stop]) + s.start) for s in index.sources]
    usable = [m for m in members if len(m.rows) >= 2]
    if not usable:
        raise EmtError(
            "no source has two samples with a vector, so there is nothing to compare",
            where=context.parents["embed"].path,
            remedy="look at the status counts of `embed`, and at the rejects of `sources`",
        )
    facts = context.out / "gap.json"
    if not facts.exists():
        left_out = [m.source.name for m in members if len(m.rows) < 2]
        write_json(facts, {**_measure(context, config, features, usable), "left_out": left_out})
    fitted = _fit(context, config, features, members)
    _place(context, features, fitted, ok)
    return Outcome(rows=index.rows, metrics=_metrics(read_json(facts), fitted, config, ok))


def _measure(
    context: Context, config: GapConfig, features: Features, usable: list[Members]
) -> dict[str, Any]:
    samples = []
    with context.progress.track("reading", len(usable), unit="sources") as tracker:
        for place, member in enumerate(usable):
            rows = choose(member.rows, config.sample_per_source, (config.seed, place))
            samples.append(take_finite(features, rows))
            tracker.advance()
    with context.progress.track("comparing", 2, unit="kernels") as tracker:
        sigma = mmd.median_sigma(samples, config.seed)
        unbiased = config.mmd == "unbiased"
        means = mmd.group_means(samples, sigma, unbiased=unbiased)
        tracker.advance()
        alike = diversity.similarity_means(samples, t=config.diversity_t)
        tracker.advance()
    matrix = mmd.pairwise(means)
    names = [m.source.name for m in usable]
    weights = _group_weights(usable)
    return {
        "sources": names,
        "roles": [m.source.role for m in usable],
        "mmd2": matrix.tolist(),
        "mmd2_normalized": mmd.normalize(matrix).tolist(),
        "sigma": sigma,
        "estimator": config.mmd,
        "sampled": {name: len(sample) for name, sample in zip(names, samples, strict=True)},
        "diversity": {
            name: 1 / value for name, value in zip(names, np.diag(alike).tolist(), strict=True)
        },
        "diversity_t": config.diversity_t,
        "diversity_groups": {g: diversity.mixture_diversity(alike, w) for g, w in weights.items()},
        "groups": _group_distances(matrix, means, usable, weights),
    }


def _group_weights(usable: list[Members]) -> dict[str, np.ndarray]:
    """`pool` and `robot` as mixtures of the sources, by number of rows with a vector; only groups
    that have any."""
    out = {}
    for role in ("pool", "robot"):
        rows = np.array([len(m.rows) if m.source.role == role else 0 for m in usable], np.float64)
        if rows.any():
            out[role] = rows / rows.sum()
    return out


def _group_distances(
    matrix: np.ndarray, means: np.ndarray, usable: list[Members], weights: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Distances inside the groups against distances across (the paper's figure), and of each source
    to each group."""
    roles = np.array([m.source.role for m in usable])
    apart = ~np.eye(len(usable), dtype=bool)
    pairs = {
        "within_pool": (roles[:, None] == "pool") & (roles[None] == "pool") & apart,
        "within_robot": (roles[:, None] == "robot") & (roles[None] == "robot") & apart,
        "across": roles[:, None] != roles[None],
    }
    out: dict[str, Any] = {
        name: float(matrix[which].mean()) if which.any() else None for name, which in pairs.items()
    }
    for role, mixture in weights.items():
        each = np.eye(len(usable))
        out[f"to_{role}"] = {
            m.source.name: mmd.mixture_mmd2(means, one, mixture)
            for m, one in zip(usable, each, strict=True)
        }
    both = len(weights) == 2
    out["pool_to_robot"] = (
        mmd.mixture_mmd2(means, weights["pool"], weights["robot"]) if both else None
    )
    return out


def _fit(
    context: Context, config: GapConfig, features: Features, members: list[Members]
) -> FittedMap:
    path = context.out / "map_fit.safetensors"
    if path.exists():  # an interrupted run got this far
        return FittedMap.load(path)
    counts = spread([len(m.rows) for m in members], config.projection_fit)
    rows = np.concatenate(
        [
            choose(m.rows, count, (config.seed, place, 1))
            for place, (m, count) in enumerate(zip(members, counts, strict=True))
        ]
    )
    with context.progress.track(f"fitting {config.projection}", len(rows)) as tracker:
        fitted = FittedMap.fit(rows, take_finite(features, rows), config)
        fitted.save(path)
        tracker.advance(len(rows))
    return fitted


def _place(context: Context, features: Features, fitted: FittedMap, ok: np.ndarray) -> None:
    """Append map.lance in commits. Batches start at multiples of PLACE_ROWS, resumed or not: the
    same sums."""
    table = Table(context.out / "map.lance")
    commit_rows = max(context.runtime.commit_rows // PLACE_ROWS, 1) * PLACE_ROWS
    done = table.rows
    is_fitted = np.zeros(features.rows, bool)
    is_fitted[fitted.rows] = True
    with context.progress.track("placing", features.rows, done=done) as tracker:
        for start in range(done, features.rows, commit_rows):
            stop = min(start + commit_rows, features.rows)
            xy = np.full((stop - start, 2), np.nan, np.float32)
            at = start
            for batch in _aligned(features, start, stop):
                inside = slice(at, at + len(batch))
                wanted = ok[inside] & ~is_fitted[inside]
                if wanted.any():
                    xy[np.flatnonzero(wanted) + at - start] = fitted.place(batch[wanted])
                at += len(batch)
                tracker.advance(len(batch))
            first, last = np.searchsorted(fitted.rows, [start, stop])
            xy[fitted.rows[first:last] - start] = fitted.xy[first:last]
            columns = {"x": xy[:, 0], "y": xy[:, 1], "fitted": is_fitted[start:stop]}
            table.append(
                pa.table({name: np.ascontiguousarray(values) for name, values in columns.items()})
            )


def _aligned(features: Features, start: int, stop: int) -> Iterator[np.ndarray]:
    """Exactly PLACE_ROWS rows a time (a reader may hand out less where its files end)."""
    parts: list[np.ndarray] = []
    held = 0
    for _, batch in features.batches(start=start, stop=stop, batch_rows=PLACE_ROWS):
        while len(batch):
            part, batch = batch[: PLACE_ROWS - held], batch[PLACE_ROWS - held :]
            parts.append(part)
            held += len(part)
            if held == PLACE_ROWS:
                yield np.concatenate(parts)
                parts, held = [], 0
    if parts:
        yield np.concatenate(parts)


def _metrics(
    facts: dict[str, Any], fitted: FittedMap, config: GapConfig, ok: np.ndarray
) -> dict[str, Any]:
    return {
        "sigma": facts["sigma"],
        "pool_to_robot": facts["groups"]["pool_to_robot"],
        "within_pool": facts["groups"]["within_pool"],
        "within_robot": facts["groups"]["within_robot"],
        "across": facts["groups"]["across"],
        "diversity_groups": facts["diversity_groups"],
        "map_fitted": len(fitted.rows),
        "map_placed": int(ok.sum()) - len(fitted.rows),
        "map_without_vector": int((~ok).sum()),
        "pca_explained": fitted.pca.explained,
        "trustworthiness": fitted.trustworthiness(seed=config.seed),
    }
