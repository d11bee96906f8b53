"""The layers of the map for one coloring: points, raster, decoys; bounded for any pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go

from emt_core.explore import numbers
from emt_core.explore.figures.map import PointGroup, Raster, proximity_map
from emt_core.explore.figures.palette import LEFT_OUT, ROBOT
from emt_core.explore.figures.raster import paint_groups, paint_values, png_uri
from emt_core.explore.tables.map import (
    Bounds,
    Region,
    cells,
    count_grid,
    leading_grid,
    mean_grid,
    spread_sample,
)

POINTS_AT_ONCE = 10_000
"""At most this many points in a figure: still smooth, and a box over all sends back 1 MB."""
ROBOTS_OVER_RASTER = 1_500
FEW_POINTS = 3_000
RASTER_SIZE = (400, 256)
DECOY_SIZE = (72, 46)


@dataclass(frozen=True, kw_only=True)
class Coloring:
    """The colors of rows: by group, or by a value."""

    names: tuple[str, ...]
    colors: Mapping[str, str]
    codes: np.ndarray
    """Integer [rows], places in `names`; -1 = not drawn."""

    values: np.ndarray | None = None
    """float32 [rows]: color pool rows by this instead."""

    value_range: tuple[float, float] | None = None
    value_title: str = "score"
    """Title of the color bar."""


@dataclass(frozen=True, kw_only=True)
class MapPoints:
    """All rows of the map. Arrays [rows]."""

    x: np.ndarray
    """NaN: not drawn, and in no region."""

    y: np.ndarray
    robot: np.ndarray
    """bool."""

    source: np.ndarray
    sources: Sequence[str]
    logit: np.ndarray | None = None

    def only(self, shown: np.ndarray) -> MapPoints:
        """The map with these rows alone (bool [rows])."""
        return replace(self, x=np.where(shown, self.x, np.nan))


def draw_map(
    points: MapPoints,
    coloring: Coloring,
    bounds: Bounds,
    *,
    outline: Region | None = None,
    marked: Sequence[int] = (),
    points_at_once: int = POINTS_AT_ONCE,
    height: int = 640,
    seed: int = 0,
) -> go.Figure:
    """The map: points if at most `points_at_once` are in the bounds, else a raster of the pool.

    Robot data are sampled above a raster. marked: rows to circle.
    """
    with np.errstate(invalid="ignore"):
        inside = (
            (points.x >= bounds.x0)
            & (points.x <= bounds.x1)
            & (points.y >= bounds.y0)
            & (points.y <= bounds.y1)
        )
    inside &= (coloring.codes >= 0) | points.robot
    rows = np.flatnonzero(inside)
    pool, robot = rows[~points.robot[rows]], rows[points.robot[rows]]
    raster = None
    if len(rows) > points_at_once:
        raster = _raster(points, coloring, bounds, pool)
        robot = spread_sample(robot, points.source[robot], ROBOTS_OVER_RASTER, seed=seed)
        pool = pool[:0]
    groups = _pool_groups(points, coloring, pool) + _robot_groups(points, coloring, robot)
    legend = _legend(coloring, inside & ~points.robot) if raster is not None else {}
    spots = np.asarray(marked, np.int64)
    spots = spots[np.isfinite(points.x[spots])]
    return proximity_map(
        x_range=(bounds.x0, bounds.x1),
        y_range=(bounds.y0, bounds.y1),
        groups=groups,
        raster=raster,
        legend=legend,
        value_range=coloring.value_range if coloring.values is not None else None,
        value_title=coloring.value_title,
        outline=(outline.xs, outline.ys) if outline else None,
        marked=(points.x[spots], points.y[spots]) if len(spots) else None,
        height=height,
    )


def _pool_groups(points: MapPoints, coloring: Coloring, rows: np.ndarray) -> list[PointGroup]:
    if coloring.values is not None:
        return [_group(points, "pool", coloring.values[rows], rows)] if len(rows) else []
    found = []
    # Drawn last is on top: gray first, then large groups, so that rare ones are not covered.
    counts = np.bincount(coloring.codes[rows], minlength=len(coloring.names))
    names = sorted(
        range(len(counts)),
        key=lambda c: (coloring.colors[coloring.names[c]] != LEFT_OUT, -counts[c]),
    )
    for code in names:
        mine = rows[coloring.codes[rows] == code]
        if len(mine):
            name = coloring.names[code]
            found.append(_group(points, name, coloring.colors[name], mine))
    return found


def _legend(coloring: Coloring, inside: np.ndarray) -> dict[str, str]:
    """Legend entries of a raster, which has none of its own."""
    if coloring.values is not None:
        return {}
    counts = np.bincount(coloring.codes[inside], minlength=len(coloring.names))
    return {
        f"{name} ({numbers.short(int(count))})": coloring.colors[name]
        for name, count in zip(coloring.names, counts, strict=True)
        if count
    }


def _robot_groups(points: MapPoints, coloring: Coloring, rows: np.ndarray) -> list[PointGroup]:
    """Robot data: orange diamonds for any coloring; by source, a shade per set."""
    if not len(rows):
        return []
    if any(name in coloring.names for name in points.sources):
        found = []
        for code in np.unique(points.source[rows]):
            name = points.sources[int(code)]
            mine = rows[points.source[rows] == code]
            found.append(_group(points, name, coloring.colors.get(name, ROBOT), mine, robot=True))
        return found
    return [_group(points, "robot data", ROBOT, rows, robot=True)]


def _group(
    points: MapPoints, name: str, color: str | np.ndarray, rows: np.ndarray, *, robot: bool = False
) -> PointGroup:
    return PointGroup(
        name=f"{name} ({numbers.short(len(rows))})",
        color=color,
        x=points.x[rows],
        y=points.y[rows],
        rows=rows,
        text=_hover(points, rows),
        symbol="diamond" if robot else "circle",
        size=5 if len(points.x) < FEW_POINTS else 4,
        opacity=0.85 if robot else 0.7,
    )


def _hover(points: MapPoints, rows: np.ndarray) -> list[str]:
    names = [points.sources[int(code)] for code in points.source[rows]]
    if points.logit is None:
        return names
    return [
        f"{name}, score {numbers.logit(float(s))}"
        for name, s in zip(names, points.logit[rows], strict=True)
    ]


def _raster(points: MapPoints, coloring: Coloring, bounds: Bounds, pool: np.ndarray) -> Raster:
    width, height = RASTER_SIZE
    cell = cells(points.x[pool], points.y[pool], bounds, width, height)
    count = count_grid(cell, width, height)
    if coloring.values is not None:
        low, high = coloring.value_range or (0.0, 1.0)
        picture = paint_values(
            mean_grid(cell, coloring.values[pool], width, height), count, low, high
        )
    else:
        code = coloring.codes[pool]
        leader = leading_grid(cell, code, len(coloring.names), width, height)
        picture = paint_groups(leader, count, [coloring.colors[name] for name in coloring.names])
    return Raster(uri=png_uri(picture), **_decoys(points, coloring, bounds, pool))


def _decoys(points: MapPoints, coloring: Coloring, bounds: Bounds, pool: np.ndarray) -> dict:
    """An invisible marker per occupied cell of a coarse grid, with a hover text."""
    width, height = DECOY_SIZE
    cell = cells(points.x[pool], points.y[pool], bounds, width, height)
    count = count_grid(cell, width, height).reshape(-1)
    used = np.flatnonzero(count)
    leader = leading_grid(cell, coloring.codes[pool], len(coloring.names), width, height).reshape(
        -1
    )
    mean = None
    if points.logit is not None:
        mean = mean_grid(cell, points.logit[pool], width, height).reshape(-1)
    text = []
    for place in used:
        words = f"{numbers.whole(int(count[place]))} samples"
        if leader[place] >= 0 and len(coloring.names) > 1:
            words += f", mostly {coloring.names[leader[place]]}"
        if mean is not None and np.isfinite(mean[place]):
            words += f"<br>mean score {numbers.logit(float(mean[place]))}"
        text.append(words)
    return {
        "decoy_x": bounds.x0 + (used % width + 0.5) * (bounds.x1 - bounds.x0) / width,
        "decoy_y": bounds.y0 + (used // width + 0.5) * (bounds.y1 - bounds.y0) / height,
        "decoy_text": text,
    }
