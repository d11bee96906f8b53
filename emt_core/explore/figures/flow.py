"""The flow as a picture: boxes from left to right, joined by arrows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

import plotly.graph_objects as go

from emt_core.explore.figures.palette import CATEGORY, INK, LEFT_OUT, SELECTED, fade
from emt_core.explore.tables.flow import Box

STATE_COLOR = {
    "done": CATEGORY["spatial"],
    "running": "#2F8BD8",
    "stale": "#D58A00",
    "interrupted": "#D58A00",
    "failed": "#D9465A",
    "missing": "#8C929C",
    "absent": LEFT_OUT,
}
"""absent: not in the recipe."""

STATE_SIGN = {
    "done": "✓",
    "running": "▶",
    "stale": "↻",
    "interrupted": "‖",
    "failed": "✕",
    "missing": "○",
}
"""Shown with the color, so that no state depends on color alone."""

FAINT = 0.75
"""Opacity of the text of absent stages: 4.5:1 on white and on dark backgrounds."""

ROW_PX = 74
WIDTH, HEIGHT = 0.86, 0.80
"""Of a box, in columns and rows."""

Point = tuple[float, float]

CLICK_SPOTS = 5
"""Invisible markers over a box, so that a click anywhere on it counts."""


def flow_picture(
    boxes: Sequence[Box], edges: Iterable[tuple[str, str]], *, chosen: str | None = None
) -> go.Figure:
    """The figure. `customdata` of a clicked point is the id of its box."""
    edges = list(edges)
    place = _places(boxes, edges)
    figure = go.Figure()
    solid = {box.id for box in boxes if box.state != "absent"}
    shapes = [
        _arrow(_way(place[a], place[b], place.values()), faint=not {a, b} <= solid)
        for a, b in edges
    ]
    shapes += [_frame(box, place[box.id], chosen=box.id == chosen) for box in boxes]
    plain = {"showarrow": False, "align": "center", "font": {"size": 12, "color": INK}}
    for box in boxes:
        x, y = place[box.id]
        figure.add_annotation(
            x=x, y=y, text=_words(box), opacity=FAINT if box.state == "absent" else 1, **plain
        )
    spots = [(box, place[box.id], spot) for box in boxes for spot in range(CLICK_SPOTS)]
    figure.add_scatter(
        x=[x + WIDTH * ((spot + 0.5) / CLICK_SPOTS - 0.5) for _, (x, _), spot in spots],
        y=[y for _, (_, y), _ in spots],
        customdata=[box.id for box, _, _ in spots],
        hovertext=[
            "<br>".join(escape(line) for line in (box.title, *box.hover)) for box, _, _ in spots
        ],
        hoverinfo="text",
        mode="markers",
        marker={"size": 34, "symbol": "square", "opacity": 0},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        showlegend=False,
    )
    columns = max((x for x, _ in place.values()), default=0)
    top, bottom = (
        max((y for _, y in place.values()), default=0),
        min((y for _, y in place.values()), default=0),
    )
    axis = {"visible": False, "fixedrange": True}
    figure.update_xaxes(range=[-0.5, columns + 0.5], **axis)
    figure.update_yaxes(range=[bottom - 0.52, top + 0.52], **axis)
    figure.update_layout(
        shapes=shapes,
        height=round(ROW_PX * (top - bottom + 1.04)),
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        dragmode=False,
        hoverlabel={"align": "left"},
        uirevision="flow",
    )
    return figure


def _places(boxes: Sequence[Box], edges: Sequence[tuple[str, str]]) -> dict[str, Point]:
    """Id -> (column, row); within a column, boxes are sorted by the mean row of their parents."""
    feeds: dict[str, list[str]] = {}
    for a, b in edges:
        feeds.setdefault(b, []).append(a)
    place: dict[str, Point] = {}
    for column in sorted({box.column for box in boxes}):
        mine = [box for box in boxes if box.column == column]
        rows = {
            box.id: sum(-place[a][1] for a in feeds[box.id] if a in place) / len(feeds[box.id])
            if feeds.get(box.id)
            else 0.0
            for box in mine
        }
        mine.sort(key=lambda box: rows[box.id])
        for number, box in enumerate(mine):
            place[box.id] = (float(column), (len(mine) - 1) / 2 - number)
    return place


def _words(box: Box) -> str:
    color = STATE_COLOR[box.state]
    sign = (
        f'<span style="color:{color}">{STATE_SIGN[box.state]}</span> '
        if box.state in STATE_SIGN
        else ""
    )
    title = escape(box.title)
    title = title if box.state == "absent" else f"<b>{title}</b>"
    small = [f'<span style="font-size:11px">{escape(line)}</span>' for line in box.lines]
    return "<br>".join([sign + title, *small])


def _frame(box: Box, at: Point, *, chosen: bool) -> dict:
    (x, y), color = at, STATE_COLOR[box.state]
    faint = box.state == "absent"
    left = x - WIDTH / 2
    right = x + WIDTH / 2
    low = y - HEIGHT / 2
    high = y + HEIGHT / 2
    dash = "dot" if faint else "dash" if box.state == "missing" else "solid"
    return {
        "type": "rect",
        "x0": left,
        "x1": right,
        "y0": low,
        "y1": high,
        "layer": "below",
        "fillcolor": fade(
            SELECTED if chosen else color, 0.16 if chosen else 0.03 if faint else 0.10
        ),
        "line": {
            "color": SELECTED if chosen else color,
            "width": 2.5 if chosen else 1.2,
            "dash": dash,
        },
    }


def _way(start: Point, end: Point, boxes: Iterable[Point]) -> list[Point]:
    """The points of an arrow, which passes between the boxes of the columns it crosses."""
    x0, x1 = start[0] + WIDTH / 2, end[0] - WIDTH / 2
    way = [(x0, start[1])]
    taken = list(boxes)
    for column in range(round(start[0]) + 1, round(end[0])):
        straight = start[1] + (end[1] - start[1]) * (column - start[0]) / (end[0] - start[0])
        rows = [y for x, y in taken if x == column]
        gaps = [y + side for y in rows for side in (-0.5, 0.5)]
        if any(abs(straight - y) < HEIGHT / 2 + 0.06 for y in rows):
            # of two gaps as near, the one on the side of where it comes from
            straight = min(
                gaps, key=lambda gap: (round(abs(gap - straight), 6), abs(gap - start[1]))
            )
        way += [(column - WIDTH / 2, straight), (column + WIDTH / 2, straight)]
    return [*way, (x1, end[1])]


def _arrow(way: Sequence[Point], *, faint: bool) -> dict:
    path = f"M {way[0][0]},{way[0][1]}"
    for (x0, y0), (x1, y1) in pairwise(way):
        middle = (x0 + x1) / 2
        path += f" C {middle},{y0} {middle},{y1} {x1},{y1}"
    return {
        "type": "path",
        "path": path,
        "layer": "below",
        "line": {
            "color": fade(LEFT_OUT, 0.35 if faint else 0.9),
            "width": 1.4,
            "dash": "dot" if faint else "solid",
        },
    }
