"""Blocks on the data and the gap (method sections 3 and 6)."""

from __future__ import annotations

import numpy as np

from emt_core.explore import numbers
from emt_core.explore.figures.gap import mmd_matrix
from emt_core.explore.figures.map_layers import Coloring, MapPoints, draw_map
from emt_core.explore.figures.palette import LEFT_OUT, POOL, SELECTED
from emt_core.explore.reading import Reading
from emt_core.explore.report.content import Content, Figure, Item, Numbers, Table
from emt_core.explore.tables.gap import (
    ALL_ROBOTS,
    cluster_order,
    diversities,
    group_figures,
    how_measured,
    matrix_table,
    nearest_sources,
)
from emt_core.explore.tables.map import PROJECTIONS, bounds_of
from emt_core.explore.tables.measured import DIVERSITY, MMD
from emt_core.workspace.files import read_json
from emt_core.workspace.words import and_list

MAP_HEIGHT = 560


def data(reading: Reading) -> Content:
    """The pool's sources and the robot sets, with counts."""
    sources = reading.index.sources
    pool = [source for source in sources if source.role == "pool"]
    robot = [source for source in sources if source.role == "robot"]
    rejected = sum(sum(source.facts["rejects"].values()) for source in sources)
    samples = numbers.counted(sum(source.rows for source in pool), "sample")
    frames = numbers.counted(sum(source.rows for source in robot), "frame")
    sentences = [
        f"The pool has {samples} in {numbers.counted(len(pool), 'source')}; the robot data have "
        f"{frames} in {numbers.counted(len(robot), 'set')}.",
    ]
    if rejected:
        rows = numbers.counted(rejected, "row")
        sentences.append(f"{rows} could not be used and were rejected, each with a reason.")
    table = Table(
        title="Sources",
        columns=("source", "role", "format", "kept", "rejected"),
        rows=tuple(
            (
                source.name,
                "robot data" if source.role == "robot" else "pool",
                source.facts["format"],
                numbers.whole(source.rows),
                numbers.whole(sum(source.facts["rejects"].values())),
            )
            for source in sources
        ),
        text_columns=3,
    )
    artifacts = (reading.need("sources"),)
    return Content(sentences=tuple(sentences), items=(table,), artifacts=artifacts)


def gap(reading: Reading) -> Content:
    """MMD matrix and diversity of pool and robot data."""
    artifact = reading.need("gap")
    facts = read_json(artifact.data / "gap.json")
    groups = group_figures(facts)
    across, pool, robot = (groups[name] for name in ("across", "within_pool", "within_robot"))
    sentences = []
    if across.value is not None and pool.value is not None and robot.value is not None:
        wider = across.value > max(pool.value, robot.value)
        verdict = "farther than within either group" if wider else "no farther than within a group"
        sentences.append(
            f"Mean squared MMD between a pool source and a robot set is {across.text}; among pool "
            f"sources it is {pool.text}, among robot sets {robot.text}: on average {verdict}."
        )
    ranked = nearest_sources(facts).get(ALL_ROBOTS, [])
    if len(ranked) > 1:
        (near, nearest), (far, farthest) = ranked[0], ranked[-1]
        sentences.append(
            f"Of the pool's sources, {near} is nearest to the robot data (squared MMD "
            f"{nearest.text}), {far} is farthest ({farthest.text})."
        )
    varied = diversities(facts, "diversity_groups")
    values = [
        ("MMD² pool to robot data", groups["pool_to_robot"].text, MMD),
        *(
            (f"Diversity, {label}", varied[name].text, DIVERSITY)
            for name, label in (("pool", "pool"), ("robot", "robot data"))
            if name in varied
        ),
    ]
    items: list[Item] = [Numbers(values=tuple(values)), _matrix(facts), _distances(facts)]
    return Content(
        sentences=(*sentences, how_measured(facts)), items=tuple(items), artifacts=(artifact,)
    )


def _matrix(facts: dict) -> Figure:
    order = cluster_order(np.asarray(facts["mmd2"], float))
    table = matrix_table(facts, order, normalized=True)
    roles = [facts["roles"][place] for place in order]
    figure = mmd_matrix(table.to_numpy(), list(table.columns), roles, normalized=True)
    return Figure(
        title="Squared MMD between all sources, normalized to the largest, clustered",
        figure=figure,
    )


def _distances(facts: dict) -> Table:
    """Squared MMD of each pool source to the robot data and to each robot set."""
    found = nearest_sources(facts)
    to = {target: dict(pairs) for target, pairs in found.items()}
    rows = tuple(
        (name, *(to[target][name].text for target in to)) for name, _ in found.get(ALL_ROBOTS, [])
    )
    return Table(
        title="Squared MMD of each pool source to the robot data, nearest first",
        columns=("pool source", *found),
        rows=rows,
    )


def projection(reading: Reading) -> Content:
    """The map of pool and robot data, colored by selection."""
    artifact = reading.need("gap")
    x, y = reading.map_points
    pool = reading.is_pool
    score = reading.chain.score
    if reading.chain.select is not None:
        codes = np.where(pool, ~reading.selected, -1).astype(np.int16)
        colors = {"selected": SELECTED, "rejected": LEFT_OUT}
    else:
        codes = np.where(pool, 0, -1).astype(np.int16)
        colors = {"pool": POOL}
    points = MapPoints(
        x=x,
        y=y,
        robot=~pool,
        source=reading.codes,
        sources=reading.source_names,
        logit=reading.logits if score is not None else None,
    )
    figure = draw_map(
        points,
        Coloring(names=tuple(colors), colors=colors, codes=codes),
        bounds_of(x, y),
        height=MAP_HEIGHT,
    )
    # nothing is selected by dragging here
    figure.update_layout(dragmode="zoom")
    config = artifact.config
    placed = int(np.isfinite(x).sum())
    name = str(config.get("projection", ""))
    how = [f"{PROJECTIONS.get(name, name)} of the encoder's features"]
    if config.get("projection_fit") and artifact.metrics.get("map_placed"):
        fitted = numbers.whole(artifact.metrics["map_fitted"])
        how.append(f"fitted on {fitted} samples, the others placed next to their neighbors")
    sentences = [
        f"{numbers.counted(placed, 'sample')}, placed by {and_list(how)}. Near points are similar; "
        "distances between far groups mean little."
    ]
    sources = (artifact, *(a for a in (reading.chain.select, score) if a is not None))
    return Content(
        sentences=tuple(sentences),
        items=(Figure(title="Map of pool and robot data", figure=figure),),
        artifacts=sources,
    )
