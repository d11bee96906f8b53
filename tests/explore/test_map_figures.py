"""The map of samples: its points, its raster, regions drawn on it, and samples spread over it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emt_core.explore.figures import palette
from emt_core.explore.figures.map_layers import POINTS_AT_ONCE, Coloring, MapPoints, draw_map
from emt_core.explore.figures.raster import opacity, paint_groups, paint_values, png_uri
from emt_core.explore.tables.map import (
    Bounds,
    Region,
    bounds_of,
    cells,
    count_grid,
    leading_grid,
    mean_grid,
    rows_in,
)
from emt_core.explore.tables.map import spread_sample as spread


def world(n: int) -> tuple[MapPoints, Coloring]:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=n).astype(np.float32), rng.normal(size=n).astype(np.float32)
    x[:5] = np.nan
    robot = np.arange(n) % 4 == 0
    source = np.where(robot, 1, 0).astype(np.int16)
    points = MapPoints(x=x, y=y, robot=robot, source=source, sources=["web", "arm"], logit=x)
    codes = np.where(robot, -1, np.arange(n) % 2).astype(np.int16)
    return points, Coloring(names=("u", "v"), colors={"u": "#112233", "v": "#445566"}, codes=codes)


def test_a_small_map_has_every_point_once():
    points, coloring = world(1000)
    figure = draw_map(points, coloring, bounds_of(points.x, points.y))
    rows = np.concatenate([trace.customdata for trace in figure.data])
    assert sorted(rows) == list(range(5, 1000))
    assert not figure.layout.images
    assert figure.layout.dragmode == "select"


@pytest.mark.parametrize("n", [1000, 30_000])
def test_the_color_bar_says_which_score_it_is(n):
    points, coloring = world(n)
    bar = {
        "values": points.logit,
        "value_range": (-1.0, 1.0),
        "value_title": "score (− mean distance)",
    }
    figure = draw_map(points, replace(coloring, **bar), bounds_of(points.x, points.y))
    assert figure.layout.coloraxis.colorbar.title.text == "score (− mean distance)"


def test_a_large_map_is_a_raster_with_decoys_of_bounded_size():
    points, coloring = world(300_000)
    figure = draw_map(points, coloring, bounds_of(points.x, points.y))
    assert len(figure.to_json()) < 700_000
    assert len(figure.layout.images) == 1
    decoys = figure.data[0]
    assert decoys.marker.opacity == 0
    assert 100 < len(decoys.x) < 72 * 46
    assert "mostly" in decoys.text[0]
    assert sum(len(trace.x) for trace in figure.data[1:]) < POINTS_AT_ONCE
    assert [trace.name.split(" ")[0] for trace in figure.data[1:]] == ["u", "v", "robot"]


def test_zooming_turns_the_raster_into_points():
    points, coloring = world(300_000)
    figure = draw_map(points, coloring, Bounds(0, 0.1, 0, 0.1))
    assert not figure.layout.images
    rows = np.concatenate([trace.customdata for trace in figure.data])
    assert len(rows) == int(
        ((points.x >= 0) & (points.x <= 0.1) & (points.y >= 0) & (points.y <= 0.1)).sum()
    )


def test_roles_can_be_hidden():
    points, coloring = world(1000)
    bounds = bounds_of(points.x, points.y)
    pool_only = draw_map(points.only(~points.robot), coloring, bounds)
    rows = np.concatenate([trace.customdata for trace in pool_only.data])
    assert not points.robot[rows].any()
    robots = draw_map(points.only(points.robot), coloring, bounds)
    assert points.robot[np.concatenate([trace.customdata for trace in robots.data])].all()


def test_grids_count_lead_and_average():
    x, y = np.array([0.1, 0.1, 0.9, np.nan, 5.0]), np.array([0.1, 0.1, 0.9, 0.5, 0.5])
    cell = cells(x, y, Bounds(0, 1, 0, 1), 2, 2)
    assert cell.tolist() == [0, 0, 3, -1, -1]
    assert count_grid(cell, 2, 2).tolist() == [[2, 0], [0, 1]]
    assert leading_grid(cell, np.array([1, 1, 0, 0, 0]), 2, 2, 2).tolist() == [[1, -1], [-1, 0]]
    mean = mean_grid(cell, np.array([1.0, 3.0, np.nan, 1.0, 1.0]), 2, 2)
    assert mean[0, 0] == 2
    assert np.isnan(mean[1, 1])


def test_raster_colors_and_opacity():
    leader, count = np.array([[0, -1]]), np.array([[10, 0]])
    picture = paint_groups(leader, count, ["#112233"])
    assert picture[0, 0].tolist() == [0x11, 0x22, 0x33, 255]
    assert picture[0, 1, 3] == 0
    assert np.all(np.diff(opacity(np.array([0, 1, 10, 100]))) > 0)
    low, high = paint_values(np.array([[0.0, 1.0]]), np.array([[1, 1]]), 0, 1)[0]
    assert low[:3].tolist() == list(palette.rgb(palette.SCORE_SCALE[0][1]))
    assert high[:3].tolist() == list(palette.rgb(palette.SCORE_SCALE[-1][1]))
    assert png_uri(picture).startswith("data:image/png;base64,")


def test_regions_find_the_points_inside():
    rng = np.random.default_rng(5)
    x, y = rng.uniform(-1, 1, 20_000), rng.uniform(-1, 1, 20_000)
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    lasso = Region(tuple(0.5 * np.cos(angle)), tuple(0.5 * np.sin(angle)))
    inside = rows_in(lasso, x, y)
    assert (
        set(np.flatnonzero(np.hypot(x, y) < 0.499))
        <= set(inside)
        <= set(np.flatnonzero(np.hypot(x, y) < 0.501))
    )
    box = Region((-0.5, 0.25), (0.0, 0.5))
    assert np.array_equal(
        rows_in(box, x, y), np.flatnonzero((x >= -0.5) & (x <= 0.25) & (y >= 0) & (y <= 0.5))
    )
    assert len(rows_in(Region((5, 6), (5, 6)), x, y)) == 0


def test_regions_and_bounds_survive_a_link():
    region = Region((0.0, 1.5, 2.0), (0.25, -1.0, 3.0))
    assert Region.parse(region.text()) == region
    bounds = Bounds(0, 1, -2.5, 3)
    assert Bounds.parse(bounds.text()) == bounds
    for bad in ("", "1,2", "1,2;x,y", "nan,1;2,3", "1,2,3;4,5,6"):
        assert Region.parse(bad) is None
    for bad in ("", "1,2,3", "2,1,0,1", "a,b,c,d", "nan,1,0,1"):
        assert Bounds.parse(bad) is None
    assert len(Region.drawn(list(range(1000)), list(range(1000))).xs) <= 48
    assert Region.drawn([1], [1]) is None


def test_spread_sample_keeps_every_group():
    group = np.array([0] * 10_000 + [1] * 20)
    found = spread(np.arange(10_020), group, 100)
    assert len(found) <= 120
    assert (group[found] == 1).sum() >= 10
    assert np.array_equal(found, spread(np.arange(10_020), group, 100))


def test_marks_are_circled_where_they_have_a_place():
    points, coloring = world(200)
    points.x[3] = np.nan
    figure = draw_map(points, coloring, bounds_of(points.x, points.y), marked=[11, 3, 7])
    marked = next(trace for trace in figure.data if trace.name == "marked")
    assert list(marked.x) == [points.x[11], points.x[7]]


def test_density_can_be_asked_for_with_few_points():
    points, coloring = world(200)
    figure = draw_map(points, coloring, bounds_of(points.x, points.y), points_at_once=0)
    assert len(figure.layout.images) == 1
    assert any(trace.name == "cells" for trace in figure.data)
