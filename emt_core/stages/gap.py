"""gap: how far pool and robot data lie apart (method sections 3 and 7), and a 2-D map.

gap.json               mmd2 between all pairs of sources, sigma, diversity, groups, left_out, ...
map_fit.safetensors    the fitted map: index rows, PCA, coordinates (what places any other feature)
map.lance              x, y float32 (NaN without a vector), fitted bool; row i = index row i

MMD and diversity come from a seeded subsample of each source. "All pool" and "all robot" are
mixtures of their sources by number of rows, worked out from the same kernel means: they need no
subsample of their own, and no small source is lost in one.
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
from emt_core.recipe.gap import GapConfig
from emt_core.run.stage import Context, Outcome
from emt_core.workspace.files import read_json, write_json
from emt_core.workspace.table import Table

VERSION = 2

PLACE_ROWS = 4096
"""Rows placed on the map at once, from fixed rows of the store on: results do not depend on where
a run was interrupted."""


@dataclass(frozen=True)
class Members:
    """A source and its rows that have a vector."""

    source: SourceRange
    rows: np.ndarray


def run(context: Context) -> Outcome:
    """Raises EmtError where no source has two samples with a vector."""
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
    path = context.out / "gap.json"
    if not path.exists():  # else an interrupted run got this far
        left_out = [m.source.name for m in members if len(m.rows) < 2]
        write_json(path, {**_measure(context, config, features, usable), "left_out": left_out})
    fitted = _fit(context, config, features, members)
    _place(context, features, fitted, ok)
    return Outcome(rows=index.rows, metrics=_metrics(read_json(path), fitted, config, ok))


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
        means = mmd.group_means(samples, sigma, unbiased=config.mmd == "unbiased")
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
        "sampled": dict(zip(names, map(len, samples), strict=True)),
        "diversity": dict(zip(names, (1 / np.diag(alike)).tolist(), strict=True)),
        "diversity_t": config.diversity_t,
        "diversity_groups": {g: diversity.mixture_diversity(alike, w) for g, w in weights.items()},
        "groups": _group_distances(matrix, means, usable, weights),
    }


def _group_weights(usable: list[Members]) -> dict[str, np.ndarray]:
    """`pool` and `robot` as mixtures of the sources, by number of rows with a vector.

    A role without any row is left out.
    """
    weights = {}
    for role in ("pool", "robot"):
        rows = np.array([len(m.rows) if m.source.role == role else 0 for m in usable], np.float64)
        if rows.any():
            weights[role] = rows / rows.sum()
    return weights


def _group_distances(
    matrix: np.ndarray, means: np.ndarray, usable: list[Members], weights: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Mean distances inside the groups and across (the paper's figure), and of source to group."""
    roles = np.array([m.source.role for m in usable])
    each = np.eye(len(usable))
    apart = each == 0
    pairs = {
        "within_pool": (roles[:, None] == "pool") & (roles == "pool") & apart,
        "within_robot": (roles[:, None] == "robot") & (roles == "robot") & apart,
        "across": roles[:, None] != roles,
    }
    distances: dict[str, Any] = {
        name: float(matrix[which].mean()) if which.any() else None for name, which in pairs.items()
    }
    for role, mixture in weights.items():
        distances[f"to_{role}"] = {
            m.source.name: mmd.mixture_mmd2(means, one, mixture)
            for m, one in zip(usable, each, strict=True)
        }
    distances["pool_to_robot"] = None
    if len(weights) == 2:
        distances["pool_to_robot"] = mmd.mixture_mmd2(means, weights["pool"], weights["robot"])
    return distances


def _fit(
    context: Context, config: GapConfig, features: Features, members: list[Members]
) -> FittedMap:
    path = context.out / "map_fit.safetensors"
    if path.exists():  # an interrupted run got this far
        return FittedMap.load(path)
    counts = spread([len(m.rows) for m in members], config.projection_fit)
    chosen = [
        choose(m.rows, count, (config.seed, place, 1))
        for place, (m, count) in enumerate(zip(members, counts, strict=True))
    ]
    rows = np.concatenate(chosen)
    with context.progress.track(f"fitting {config.projection}", len(rows)) as tracker:
        fitted = FittedMap.fit(rows, take_finite(features, rows), config)
        fitted.save(path)
        tracker.advance(len(rows))
    return fitted


def _place(context: Context, features: Features, fitted: FittedMap, ok: np.ndarray) -> None:
    """Append map.lance, commit by commit: fitted rows where they are, others beside them."""
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
            x, y = np.ascontiguousarray(xy.T)
            table.append(pa.table({"x": x, "y": y, "fitted": is_fitted[start:stop]}))


def _aligned(features: Features, start: int, stop: int) -> Iterator[np.ndarray]:
    """Exactly PLACE_ROWS rows a time (a reader may hand out less where its files end)."""
    held = np.empty((0, features.dim), np.float16)
    for _, batch in features.batches(start=start, stop=stop, batch_rows=PLACE_ROWS):
        held = np.concatenate([held, batch])
        while len(held) >= PLACE_ROWS:
            yield held[:PLACE_ROWS]
            held = held[PLACE_ROWS:]
    if len(held):
        yield held


def _metrics(
    gap: dict[str, Any], fitted: FittedMap, config: GapConfig, ok: np.ndarray
) -> dict[str, Any]:
    of_groups = ("pool_to_robot", "within_pool", "within_robot", "across")
    return {
        "sigma": gap["sigma"],
        **{name: gap["groups"][name] for name in of_groups},
        "diversity_groups": gap["diversity_groups"],
        "map_fitted": len(fitted.rows),
        "map_placed": int(ok.sum()) - len(fitted.rows),
        "map_without_vector": int((~ok).sum()),
        "pca_explained": fitted.pca.explained,
        "trustworthiness": fitted.trustworthiness(seed=config.seed),
    }
