"""The map: pool and robot data as points, or as a raster where there are many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from emt_core.explore.figures.layout import plain
from emt_core.explore.figures.palette import LEFT_OUT, MARK, SCORE_SCALE, SELECTED


@dataclass(frozen=True, kw_only=True)
class PointGroup:
    """Points of one legend entry."""

    name: str
    color: str | np.ndarray
    """One color, or float [points] on SCORE_SCALE."""

    x: np.ndarray
    y: np.ndarray
    rows: np.ndarray
    """Index rows, returned with a selection."""

    text: Sequence[str]
    """Hover text, never data text."""

    symbol: str = "circle"
    size: float = 5
    opacity: float = 0.8


@dataclass(frozen=True, kw_only=True)
class Raster:
    """An image over the bounds, and invisible markers (decoys) so that box and lasso fire."""

    uri: str
    decoy_x: np.ndarray
    decoy_y: np.ndarray
    decoy_text: Sequence[str]


def proximity_map(
    *,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    groups: Sequence[PointGroup],
    raster: Raster | None = None,
    legend: Mapping[str, str] | None = None,
    value_range: tuple[float, float] | None = None,
    value_title: str = "score",
    outline: tuple[Sequence[float], Sequence[float]] | None = None,
    marked: tuple[np.ndarray, np.ndarray] | None = None,
    height: int = 640,
) -> go.Figure:
    """A figure in which dragging draws a selection.

    legend: name -> color of what the raster shows. value_range: ends of the color scale of groups
    colored by value. outline: a region to draw (from a link). marked: x and y of points to circle.
    """
    figure = go.Figure()
    if raster is not None:
        figure.add_layout_image(
            source=raster.uri,
            xref="x",
            yref="y",
            x=x_range[0],
            y=y_range[1],
            sizex=x_range[1] - x_range[0],
            sizey=y_range[1] - y_range[0],
            sizing="stretch",
            layer="below",
        )
        figure.add_trace(
            go.Scattergl(
                x=raster.decoy_x,
                y=raster.decoy_y,
                mode="markers",
                marker={"size": 9, "opacity": 0},
                text=list(raster.decoy_text),
                hoverinfo="text",
                showlegend=False,
                name="cells",
            )
        )
    for name, color in (legend or {}).items():
        figure.add_trace(
            go.Scattergl(
                x=[None], y=[None], mode="markers", marker={"color": color, "size": 8}, name=name
            )
        )
    for group in groups:
        by_value = not isinstance(group.color, str)
        marker: dict = {
            "size": group.size,
            "opacity": group.opacity,
            "symbol": group.symbol,
            "line": {"width": 0},
        }
        if by_value:
            low, high = value_range or (0.0, 1.0)
            marker |= {"color": group.color, "cmin": low, "cmax": high, "coloraxis": "coloraxis"}
        else:
            marker["color"] = group.color
        figure.add_trace(
            go.Scattergl(
                x=group.x,
                y=group.y,
                mode="markers",
                marker=marker,
                name=group.name,
                showlegend=not by_value,
                customdata=group.rows,
                text=list(group.text),
                hovertemplate="%{text}<extra></extra>",
                unselected={"marker": {"opacity": 0.25, "color": LEFT_OUT}},
            )
        )
    if outline is not None:
        xs, ys = outline
        if len(xs) == 2:
            xs, ys = [xs[0], xs[1], xs[1], xs[0]], [ys[0], ys[0], ys[1], ys[1]]
        figure.add_trace(
            go.Scatter(
                x=[*xs, xs[0]],
                y=[*ys, ys[0]],
                mode="lines",
                line={"width": 1.5, "dash": "dot", "color": SELECTED},
                hoverinfo="skip",
                showlegend=False,
                name="region",
            )
        )
    if marked is not None:
        figure.add_trace(
            go.Scatter(
                x=marked[0],
                y=marked[1],
                mode="markers",
                marker={
                    "size": 18 if len(marked[0]) == 1 else 10,
                    "symbol": "circle-open",
                    "line": {"width": 3 if len(marked[0]) == 1 else 1.5, "color": MARK},
                    "color": MARK,
                },
                hoverinfo="skip",
                showlegend=False,
                name="marked",
            )
        )
    plain(figure, height=height)
    # What a click on the legend hides, only the browser knows: a region would take it all the same.
    figure.update_layout(legend_itemclick=False, legend_itemdoubleclick=False)
    # coordinates of a projection mean nothing by themselves: no ticks, no grid
    figure.update_xaxes(range=list(x_range), visible=False, constrain="domain")
    figure.update_yaxes(range=list(y_range), visible=False)
    figure.update_layout(
        modebar_orientation="v",
        dragmode="select",
        margin={"l": 0, "r": 0, "t": 34, "b": 0},
        newselection_line_width=1.5,
    )
    if value_range is not None:
        figure.update_layout(
            coloraxis={
                "cmin": value_range[0],
                "cmax": value_range[1],
                "colorscale": [list(stop) for stop in SCORE_SCALE],
                "colorbar": {
                    "title": {"text": value_title, "side": "right"},
                    "thickness": 10,
                    "len": 0.6,
                    "x": 1.0,
                },
            }
        )
        if not any(not isinstance(group.color, str) for group in groups):
            # a raster alone has no trace that carries the scale
            figure.add_trace(
                go.Scatter(
                    x=[None],
                    y=[None],
                    mode="markers",
                    marker={"coloraxis": "coloraxis", "color": [0]},
                    showlegend=False,
                    hoverinfo="skip",
                    name="scale",
                )
            )
    return figure
