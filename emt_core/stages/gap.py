"""gap: how far pool and robot data lie apart (method sections 3 and 7), and a 2-D map.

gap.json               mmd2 between all pairs of sources, sigma, diversity, groups, left_out, ...
map_fit.safetensors    the fitted map: index rows, PCA, coordinates (what places any other feature)
map.lance              x, y float32 (NaN without a vector), fitted bool; row i = index row i

MMD and diversity between sources come from a seeded subsample of each. The pool and the robot data
as wholes are measured as in every other stage (proximity/reference.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from emt_core.data.draws import choose, spread
from emt_core.data.features import Features, take_finite
from emt_core.data.index import Index, SourceRange
from emt_core.errors import EmtError
from emt_core.proximity.map.fitted import FittedMap
from emt_core.proximity.metrics.diversity import diversity, similarity_means
from emt_core.proximity.metrics.kernel import Estimate, GroupMeans
from emt_core.proximity.metrics.mmd import mean_mmd2, mmd2, mmd_means, normalize
from emt_core.proximity.reference import Reference, errors, own_diversity, values
from emt_core.recipe.gap import GapConfig
from emt_core.run.stage import Context, Outcome
from emt_core.workspace.files import read_json, write_json
from emt_core.workspace.table import Table

VERSION = 3

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
    reference = Reference(index=index, features=features, ok=ok)
    members = [Members(source, reference.rows_of(source)) for source in index.sources]
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
        write_json(path, {**_measure(context, config, reference, usable), "left_out": left_out})
    fitted = _fit(context, config, features, members)
    _place(context, features, fitted, ok)
    return Outcome(rows=index.rows, metrics=_metrics(read_json(path), fitted, config, ok))


def _measure(
    context: Context, config: GapConfig, reference: Reference, usable: list[Members]
) -> dict[str, Any]:
    samples = []
    with context.progress.track("reading", len(usable), unit="sources") as tracker:
        for place, member in enumerate(usable):
            rows = choose(member.rows, config.sample_per_source, (config.seed, place))
            samples.append(take_finite(reference.features, rows))
            tracker.advance()
    totals = [len(member.rows) for member in usable]
    with context.progress.track("comparing", 3, unit="kernels") as tracker:
        means = mmd_means(samples, reference.sigma, totals)
        tracker.advance()
        alike = similarity_means(samples, totals)
        tracker.advance()
        whole = reference.measured({"pool": reference.pool})
        tracker.advance()
    names = [member.source.name for member in usable]
    one = np.eye(len(usable))
    pairs = [[mmd2(means, p, q) for q in one] for p in one]
    matrix = np.array([[pair.value for pair in row] for row in pairs])
    varied = {name: diversity(alike, row) for name, row in zip(names, one, strict=True)}
    robots = {"robot": own_diversity(reference.robots)} if reference.robots else {}
    groups = _group_distances(means, usable)
    near = _to_robot(means, usable)
    whole_near = whole["mmd2_to_robot"].get("all", {}).get("pool")
    whole_error = whole["errors"]["mmd2_to_robot"].get("all", {}).get("pool")
    return {
        "sources": names,
        "roles": [member.source.role for member in usable],
        "mmd2": matrix.tolist(),
        "mmd2_normalized": normalize(matrix).tolist(),
        "sigma": reference.sigma,
        "sampled": dict(zip(names, map(len, samples), strict=True)),
        "diversity": values(varied),
        "diversity_groups": {**_known(whole["diversity"]), **values(robots)},
        "groups": {**values(groups), "to_robot": values(near), "pool_to_robot": whole_near},
        "measured_on": whole["measured_on"],
        "errors": {
            "mmd2": [[pair.error for pair in row] for row in pairs],
            "diversity": errors(varied),
            "diversity_groups": {**_known(whole["errors"]["diversity"]), **errors(robots)},
            "groups": {**errors(groups), "to_robot": errors(near), "pool_to_robot": whole_error},
        },
    }


def _known(found: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in found.items() if value is not None}


def _group_distances(means: GroupMeans, usable: list[Members]) -> dict[str, Estimate | None]:
    """Mean squared MMD between two sources inside a group, and across groups (the paper's figure).

    None for a group of one source.
    """
    pairs: dict[str, list[tuple[int, int]]] = {"within_pool": [], "within_robot": [], "across": []}
    for a, b in combinations(range(len(usable)), 2):
        roles = {usable[a].source.role, usable[b].source.role}
        pairs["across" if len(roles) == 2 else f"within_{roles.pop()}"].append((a, b))
    return {name: mean_mmd2(means, found) if found else None for name, found in pairs.items()}


def _to_robot(means: GroupMeans, usable: list[Members]) -> dict[str, Estimate | None]:
    """Squared MMD of each source to the robot sets in equal parts; empty without a robot set."""
    robot = np.array([member.source.role == "robot" for member in usable], np.float64)
    if not robot.any():
        return {}
    one = np.eye(len(usable))
    return {
        member.source.name: mmd2(means, own, robot / robot.sum())
        for member, own in zip(usable, one, strict=True)
    }


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
        "errors": {name: gap["errors"]["groups"][name] for name in of_groups},
        "map_fitted": len(fitted.rows),
        "map_placed": int(ok.sum()) - len(fitted.rows),
        "map_without_vector": int((~ok).sum()),
        "pca_explained": fitted.pca.explained,
        "trustworthiness": fitted.trustworthiness(seed=config.seed),
    }
