"""What all figures share: margins, axes, legends, bars, intervals and marked places.

Ground, grid and font come from the theme of the page or report; data colors come from palette.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from emt_core.explore.figures.palette import INK, LEFT_OUT, MARK


def plain(
    figure: go.Figure, *, height: int, x: str = "", y: str = "", legend: bool = True
) -> go.Figure:
    """Set margins, axis titles and a legend above the plot."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": 34 if legend else 12, "b": 8},
        showlegend=legend,
        legend={
            "orientation": "h",
            "yanchor": "bottom",
            "y": 1.02,
            "xanchor": "left",
            "x": 0,
            "title": None,
            "itemsizing": "constant",
        },
        hoverlabel={"align": "left"},
        font={"color": INK},
    )
    ink = {"color": INK}
    axis = {"automargin": True, "zeroline": False, "tickfont": ink, "title_font": ink}
    figure.update_xaxes(title_text=x, **axis)
    figure.update_yaxes(title_text=y, **axis)
    return figure


def bars(
    names: Iterable[str],
    values: Iterable[float],
    *,
    color: str | Sequence[str],
    text: Iterable[str],
    hover: str,
    **more: Any,
) -> go.Bar:
    """A horizontal bar per name with its value written at the end, the last name on top.

    hover: hover template. more: further arguments of go.Bar.
    """
    return go.Bar(
        y=list(names),
        x=list(values),
        orientation="h",
        marker={"color": color, "line": {"width": 0}},
        text=list(text),
        textposition="outside",
        cliponaxis=False,
        hovertemplate=hover,
        **more,
    )


def interval(
    values: Sequence[float], low: Sequence[float], high: Sequence[float], **more: Any
) -> dict[str, Any]:
    """Error bars from `low` to `high` around `values`. more: further settings of the bars."""
    # the mean of several rates may lie a little outside the pooled interval
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(top - value, 0) for value, top in zip(values, high, strict=True)],
        "arrayminus": [max(value - bottom, 0) for value, bottom in zip(values, low, strict=True)],
        "thickness": 1.5,
        **more,
    }


def guide(x: list[float], y: list[float]) -> go.Scatter:
    """A dotted line for what chance or perfect calibration would give."""
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": LEFT_OUT, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )


def name_rows(figure: go.Figure, names: Sequence[str], *, first_on_top: bool = False) -> None:
    """Write a name beside each row of the y axis; row 0 is at the bottom unless `first_on_top`."""
    ends = [-0.6, len(names) - 0.4]
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=list(names),
        range=ends[::-1] if first_on_top else ends,
        showgrid=False,
    )


def mark_x(figure: go.Figure, at: float, text: str, **place: object) -> None:
    """Draw a labeled vertical line (the cut, the stop)."""
    figure.add_vline(
        x=at,
        line={"color": MARK, "width": 1.5, "dash": "dash"},
        annotation={"text": text, "font": {"color": MARK, "size": 12}},
        annotation_position="top right",
        **place,  # type: ignore[arg-type]
    )
