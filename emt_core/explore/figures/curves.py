"""Training curves: one quantity over steps, samples or hours, a line per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go

from emt_core.explore.figures.layout import plain
from emt_core.explore.figures.palette import ROBOT, SELECTED, SOURCE_CYCLE, fade

MOST_POINTS = 800
RUN_CYCLE = (SELECTED, ROBOT, *SOURCE_CYCLE)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One run. x, y: float [n], raw. shown: float [n], drawn boldly (smoothed, or y itself)."""

    name: str
    color: str
    x: np.ndarray
    y: np.ndarray
    shown: np.ndarray


def run_colors(names: Sequence[str]) -> dict[str, str]:
    """Run -> color."""
    return {name: RUN_CYCLE[place % len(RUN_CYCLE)] for place, name in enumerate(names)}


def curve(
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    logarithmic: bool = False,
    height: int = 300,
    number: str = ".4g",
    legend: bool = True,
    ticks: str = "",
    marks: Mapping[str, float] | None = None,
) -> go.Figure:
    """A curve per line, thinned to MOST_POINTS.

    number, ticks: d3 formats of values and of the y axis. marks: name -> place on x (checkpoints).
    """
    figure = go.Figure()
    for line in lines:
        keep = _thin(len(line.x))
        if not np.array_equal(line.y, line.shown, equal_nan=True):
            figure.add_trace(
                go.Scatter(
                    x=line.x[keep],
                    y=line.y[keep],
                    mode="lines",
                    line={"color": fade(line.color, 0.25), "width": 1},
                    hoverinfo="skip",
                    showlegend=False,
                )
            )
        figure.add_trace(
            go.Scatter(
                x=line.x[keep],
                y=line.shown[keep],
                mode="lines" if len(keep) > 1 else "markers",
                name=escape(line.name),
                line={"color": line.color, "width": 2},
                hovertemplate="%{y:" + number + "}<extra>" + escape(line.name) + "</extra>",
            )
        )
    plain(figure, height=height, x=x, y=y, legend=legend)
    figure.update_layout(hovermode="x unified", uirevision=f"{x}{y}{logarithmic}")
    if ticks:
        figure.update_yaxes(tickformat=ticks)
    if logarithmic:
        figure.update_yaxes(type="log")
    for name, place in (marks or {}).items():
        figure.add_vline(x=place, line={"color": fade("#808080", 0.5), "width": 1, "dash": "dot"})
        figure.add_annotation(
            x=place, y=1, yref="paper", text=escape(name), showarrow=False, font={"size": 10}
        )
    return figure


def _thin(n: int) -> np.ndarray:
    if n <= MOST_POINTS:
        return np.arange(n)
    return np.unique(np.linspace(0, n - 1, MOST_POINTS).round().astype(np.int64))
