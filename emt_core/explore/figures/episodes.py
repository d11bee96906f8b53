"""An episode as one figure that plays in the browser: camera on the left, curves on the right.

The browser moves frames and cursor without asking the server. Pictures are data URIs in the figure;
the caller bounds their number and size.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from emt_core.explore.figures.palette import LEFT_OUT, MARK, POOL, ROBOT

MAX_POINTS = 1000
ROW_PX = 46
LEAST_PX = 300
HALF = 0.42
"""Half the height of a curve, in rows."""


def player(
    strip: Sequence[bytes],
    frames: Sequence[int] | np.ndarray,
    seconds: np.ndarray,
    *,
    size: tuple[int, int],
    dimensions: Sequence[str],
    values: np.ndarray,
    timed: bool = True,
) -> go.Figure:
    """Camera frames with play, pause and a scrubber; one curve per dimension with a cursor.

    strip: JPEG pictures (Plotly takes no WebP) of `frames` (frame numbers, rising). size: (width,
    height) of a picture, pixels. seconds: float [T], time of every frame of the episode; not timed:
    its number. values: float [T, D]; each dimension is scaled to its row, with its range beside its
    name.
    """
    uris = [f"data:image/jpeg;base64,{base64.b64encode(content).decode()}" for content in strip]
    shown = np.asarray(frames)[: len(uris)]
    figure = go.Figure()
    at = "%{x:.2f} s" if timed else "frame %{x:.0f}"
    _curves(figure, seconds, dimensions, values, at)
    figure.add_trace(_cursor(float(seconds[shown[0]]), len(dimensions)))
    figure.add_trace(_picture(uris[0]))
    cursor, picture = len(dimensions), len(dimensions) + 1
    figure.frames = [
        go.Frame(
            name=str(int(frame)),
            data=[_cursor(float(seconds[frame]), len(dimensions)), _picture(uri)],
            traces=[cursor, picture],
        )
        for frame, uri in zip(shown, uris, strict=True)
    ]
    _arrange(figure, size, len(dimensions), "seconds" if timed else "frame")
    _controls(figure, shown, seconds if timed else None)
    return figure


def literal(text: str, length: int = 40) -> str:
    """A data set's own name, shortened, without the HTML tags that Plotly reads in labels."""
    short = text if len(text) <= length else text[: length - 1] + "…"
    return escape(short, quote=False)


def _curves(
    figure: go.Figure,
    seconds: np.ndarray,
    dimensions: Sequence[str],
    values: np.ndarray,
    at: str,
) -> None:
    thin = slice(None, None, max(1, -(-len(seconds) // MAX_POINTS)))
    labels = []
    for place, name in enumerate(dimensions):
        row, column = len(dimensions) - 1 - place, values[:, place]
        finite = column[np.isfinite(column)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        half = (high - low) / 2 or 1.0
        figure.add_trace(
            go.Scatter(
                x=seconds[thin],
                y=row + (column[thin] - (low + high) / 2) / half * HALF,
                mode="lines",
                line={"color": ROBOT, "width": 1.6},
                customdata=column[thin],
                name=literal(name),
                hovertemplate=f"{at}: %{{customdata:.3f}}<extra>%{{fullData.name}}</extra>",
            )
        )
        labels.append(
            f"{literal(name)}<br><span style='font-size:10px'>{low:.2f} to {high:.2f}</span>"
        )
    figure.update_layout(yaxis={"tickvals": list(range(len(dimensions))), "ticktext": labels[::-1]})


def _cursor(at: float, rows: int) -> go.Scatter:
    return go.Scatter(
        x=[at, at],
        y=[-0.5, rows - 0.5],
        mode="lines",
        line={"color": MARK, "width": 2},
        hoverinfo="skip",
        name="now",
    )


def _picture(uri: str) -> go.Image:
    return go.Image(source=uri, xaxis="x2", yaxis="y2", zsmooth="fast", hoverinfo="skip")


def _arrange(figure: go.Figure, size: tuple[int, int], rows: int, unit: str) -> None:
    width, height = size
    figure.update_layout(
        height=max(LEAST_PX, 40 + ROW_PX * rows) + 110,
        margin={"l": 8, "r": 12, "t": 8, "b": 104},
        showlegend=False,
        yaxis={
            "range": [-0.6, max(rows, 1) - 0.4],
            "zeroline": False,
            "automargin": True,
            "anchor": "x",
        },
        xaxis={"domain": [0.6, 1], "title": {"text": unit}, "zeroline": False, "anchor": "y"},
        xaxis2={
            "domain": [0, 0.4],
            "range": [-0.5, width - 0.5],
            "visible": False,
            "anchor": "y2",
            "constrain": "domain",
            "constraintoward": "left",
        },
        yaxis2={
            "domain": [0, 1],
            "range": [height - 0.5, -0.5],
            "visible": False,
            "scaleanchor": "x2",
            "constrain": "domain",
            "constraintoward": "top",
            "anchor": "x2",
        },
    )


def _controls(figure: go.Figure, frames: np.ndarray, seconds: np.ndarray | None) -> None:
    """Play at the recorded speed, as far as the browser keeps up; unknown: 10 frames/s."""
    gaps = np.array([0.1])
    if seconds is not None and len(frames) > 1:
        gaps = np.diff(seconds[frames])
    wait = float(np.clip(1000 * np.median(gaps), 40, 1000))
    run = {
        "frame": {"duration": wait, "redraw": True},
        "transition": {"duration": 0},
        "fromcurrent": True,
    }
    jump = {
        "frame": {"duration": 0, "redraw": True},
        "transition": {"duration": 0},
        "mode": "immediate",
    }
    figure.update_layout(
        updatemenus=[
            {
                "type": "buttons",
                "direction": "left",
                "x": 0,
                "xanchor": "left",
                "y": 0,
                "yanchor": "top",
                "pad": {"t": 40, "l": 0},
                "showactive": False,
                "bgcolor": "rgba(0,0,0,0)",
                "bordercolor": LEFT_OUT,
                "font": {"color": POOL, "size": 14},
                "buttons": [
                    {"label": "▶ Play", "method": "animate", "args": [None, run]},
                    {"label": "⏸ Pause", "method": "animate", "args": [[None], jump]},
                ],
            }
        ],
        sliders=[
            {
                "active": 0,
                "x": 0.3,
                "len": 0.7,
                "y": 0,
                "yanchor": "top",
                "pad": {"t": 40, "b": 0},
                "bgcolor": LEFT_OUT,
                "bordercolor": LEFT_OUT,
                "activebgcolor": MARK,
                "tickcolor": "rgba(0,0,0,0)",
                "font": {"color": "rgba(0,0,0,0)", "size": 1},
                "currentvalue": {
                    "prefix": "frame ",
                    "xanchor": "left",
                    "font": {"color": LEFT_OUT, "size": 13},
                    "offset": 6,
                },
                "steps": [
                    {
                        "label": f"{int(frame)}"
                        + (f" · {seconds[frame]:.2f} s" if seconds is not None else ""),
                        "method": "animate",
                        "args": [[str(int(frame))], jump],
                    }
                    for frame in frames
                ],
            }
        ],
    )
