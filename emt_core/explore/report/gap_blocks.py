"""Blocks on the pool, the robot data and the distance between them (method sections 3 and 6)."""

from __future__ import annotations

import numpy as np

from emt_core.explore import numbers
from emt_core.explore.figures.gap import mmd_matrix
from emt_core.explore.figures.map_layers import Coloring, MapPoints, draw_map
from emt_core.explore.figures.palette import LEFT_OUT, POOL, SELECTED
from emt_core.explore.reading import Reading
from emt_core.explore.report.content import Content, Figure, Item, Numbers, Table
from emt_core.explore.tables.gap import cluster_order, matrix_table
from emt_core.explore.tables.map import bounds_of
from emt_core.workspace.files import read_json
from emt_core.workspace.words import and_list

MAP_HEIGHT = 560
PROJECTIONS = {"umap": "UMAP", "pacmap": "PaCMAP", "tsne": "t-SNE", "pca": "PCA"}


def data(reading: Reading) -> Content:
    """What went in: the pool's sources and the robot sets."""
    facts = [source.facts for source in reading.index.sources]
    pool = [f for f in facts if f["role"] == "pool"]
    robot = [f for f in facts if f["role"] == "robot"]
    rejected = sum(sum(f["rejects"].values()) for f in facts)
    sentences = [
        f"The pool holds {numbers.counted(_rows(pool), 'sample')} in {numbers.counted(len(pool), 'source')}; the robot "
        f"data are {numbers.counted(_rows(robot), 'frame')} in {numbers.counted(len(robot), 'set')}.",
    ]
    if rejected:
        sentences.append(
            f"{numbers.counted(rejected, 'row')} could not be read and were left out, each with a reason."
        )
    rows = tuple(
        (
            f["name"],
            "robot data" if f["role"] == "robot" else "pool",
            f["format"],
            numbers.whole(f["stop"] - f["start"]),
            numbers.whole(sum(f["rejects"].values())),
        )
        for f in facts
    )
    table = Table(
        title="Sources",
        columns=("source", "role", "format", "kept", "rejected"),
        rows=rows,
        text_columns=3,
    )
    return Content(sentences=tuple(sentences), items=(table,), artifacts=(reading.need("sources"),))


def gap(reading: Reading) -> Content:
    """How far pool and robot data lie apart: MMD matrix and diversity."""
    artifact = reading.need("gap")
    facts = read_json(artifact.data / "gap.json")
    metrics = artifact.metrics
    across, pool, robot = (metrics.get(name) for name in ("across", "within_pool", "within_robot"))
    sentences = []
    if across is not None and pool is not None and robot is not None:
        wider = across > max(pool, robot)
        sentences.append(
            f"Mean squared MMD between a pool source and a robot set is {numbers.decimal(across)}; among pool sources "
            f"it is {numbers.decimal(pool)}, among robot sets {numbers.decimal(robot)}: "
            + (
                "on average farther than within either group."
                if wider
                else "on average no farther than within the wider group."
            )
        )
    nearest = _nearest_pool_source(facts)
    if nearest is not None:
        sentences.append(
            f"Of the pool's sources, {nearest[0]} lies nearest to the robot data (mean squared MMD "
            f"{numbers.decimal(nearest[1])}) and {nearest[2]} farthest ({numbers.decimal(nearest[3])})."
        )
    spread = metrics.get("diversity_groups", {})
    items: list[Item] = [
        Numbers(
            values=(
                (
                    "Pool to robot",
                    numbers.decimal(across),
                    "Mean squared MMD between a pool source and a robot set.",
                ),
                (
                    "Diversity, pool",
                    numbers.decimal(spread.get("pool"), 2),
                    "S(D), method section 7.",
                ),
                (
                    "Diversity, robot data",
                    numbers.decimal(spread.get("robot"), 2),
                    "S(D), method section 7.",
                ),
            )
        ),
        _matrix(facts),
        _distances(facts),
    ]
    return Content(sentences=tuple(sentences), items=tuple(items), artifacts=(artifact,))


def _matrix(facts: dict) -> Figure:
    order = cluster_order(np.asarray(facts["mmd2"], float))
    table = matrix_table(facts, order, normalized=True)
    roles = [facts["roles"][place] for place in order]
    figure = mmd_matrix(table.to_numpy(), list(table.columns), roles, normalized=True)
    return Figure(
        title="Squared MMD between all sources, normalised to the largest, near ones together",
        figure=figure,
    )


def _distances(facts: dict) -> Table:
    """Squared MMD of each pool source to each robot set."""
    matrix, names, roles = np.asarray(facts["mmd2"], float), facts["sources"], facts["roles"]
    robots = [place for place, role in enumerate(roles) if role == "robot"]
    rows = [
        (names[place], *(numbers.decimal(matrix[place, robot]) for robot in robots))
        for place in sorted(
            (p for p, role in enumerate(roles) if role == "pool"),
            key=lambda p: float(matrix[p, robots].mean()),
        )
        if robots
    ]
    return Table(
        title="Squared MMD of each pool source to each robot set, nearest first",
        columns=("pool source", *(names[place] for place in robots)),
        rows=tuple(rows),
    )


def _nearest_pool_source(facts: dict) -> tuple[str, float, str, float] | None:
    matrix, roles = np.asarray(facts["mmd2"], float), np.array(facts["roles"])
    if (roles == "pool").sum() < 2 or not (roles == "robot").any():
        return None
    mean = matrix[np.ix_(roles == "pool", roles == "robot")].mean(axis=1)
    names = [name for name, role in zip(facts["sources"], roles, strict=True) if role == "pool"]
    low, high = int(mean.argmin()), int(mean.argmax())
    return names[low], float(mean[low]), names[high], float(mean[high])


def projection(reading: Reading) -> Content:
    """The pool and the robot data in two dimensions, what the selection takes in colour."""
    artifact = reading.need("gap")
    x, y = reading.map_points
    pool = reading.is_pool
    score = reading.chain.score
    if reading.chain.select is not None:
        codes = np.where(pool, (~reading.selected).astype(np.int16), -1).astype(np.int16)
        colors, names = {"selected": SELECTED, "left out": LEFT_OUT}, ("selected", "left out")
    else:
        codes, colors, names = np.where(pool, 0, -1).astype(np.int16), {"pool": POOL}, ("pool",)
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
        Coloring(names=names, colors=colors, codes=codes),
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
        how.append(f"fitted on {fitted} samples, the others placed beside their neighbours")
    sentences = [
        f"{numbers.counted(placed, 'sample')}, placed by {and_list(how)}. Near means alike; distances between far "
        "groups mean little."
    ]
    sources = (artifact, *(a for a in (reading.chain.select, score) if a is not None))
    return Content(
        sentences=tuple(sentences),
        items=(Figure(title="Map of pool and robot data", figure=figure),),
        artifacts=sources,
    )


def _rows(facts: list[dict]) -> int:
    return sum(f["stop"] - f["start"] for f in facts)
