"""How the proximity estimator learned and how far its scores can be trusted (method section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from emt_core.figures.layout import mark_x, plain
from emt_core.figures.palette import LEFT_OUT, POOL, ROBOT

TRAIN, HELD = POOL, ROBOT
MAX_POINTS = 600


def training(steps: pd.DataFrame, *, stopped_at: int | None = None, target: float | None = None) -> go.Figure:
    """Loss (left) and accuracy (right) a step, training and validation, with the stop and its target marked.

    steps: columns step, loss, train_accuracy, val_loss, val_accuracy (NaN where not measured); thinned to MAX_POINTS.
    """
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    thin = steps.iloc[:: max(1, -(-len(steps) // MAX_POINTS))]
    measured = steps[steps["val_loss"].notna()]
    measured = measured.iloc[:: max(1, -(-len(measured) // MAX_POINTS))]
    for column, (train, held) in enumerate((("loss", "val_loss"), ("train_accuracy", "val_accuracy")), start=1):
        for frame, field, name, colour in (
            (thin, train, "training batch", TRAIN),
            (measured, held, "validation (held-out episodes)", HELD),
        ):
            figure.add_trace(
                go.Scatter(
                    x=frame["step"],
                    y=frame[field],
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    mode="lines" if field == train else "lines+markers",
                    line={"color": colour, "width": 1.2 if field == train else 2},
                    marker={"size": 5},
                    opacity=0.75 if field == train else 1,
                    hovertemplate="step %{x}: %{y:.3f}<extra>" + name + "</extra>",
                ),
                row=1,
                col=column,
            )
    plain(figure, height=300, x="step")
    figure.update_yaxes(title_text="loss (cross-entropy)", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="accuracy", tickformat=".0%", row=1, col=2)
    figure.update_layout(margin_t=48)
    if target is not None:
        line = {"color": LEFT_OUT, "width": 1, "dash": "dot"}
        # plotly's hints derive str from the default "all"; the documented type is int
        figure.add_hline(y=target, line=line, row=1, col=2)  # pyright: ignore[reportArgumentType]
    if stopped_at is not None:
        mark_x(figure, stopped_at, "stop", row=1, col=2)
        mark_x(figure, stopped_at, "stop", row=1, col=1)
    return figure


def reliability(bins: Mapping[str, Sequence[float]]) -> go.Figure:
    """Said probability against the share that really is robot data, a point a bin; the diagonal is perfect.

    bins: `predicted`, `observed`, `weight` (share of all rows) of equal length.
    """
    figure = go.Figure()
    figure.add_trace(_diagonal())
    weight = np.asarray(bins["weight"], float)
    figure.add_trace(
        go.Scatter(
            x=bins["predicted"],
            y=bins["observed"],
            mode="lines+markers",
            line={"color": ROBOT, "width": 2},
            marker={
                "size": 6 + 14 * np.sqrt(weight / max(weight.max(initial=0), 1e-12)),
                "color": ROBOT,
                "opacity": 0.85,
            },
            customdata=weight,
            hovertemplate="said %{x:.2f}, was %{y:.2f} (%{customdata:.1%} of the rows)<extra></extra>",
        )
    )
    return _unit_square(figure, "probability said", "share that is robot data")


def _diagonal() -> go.Scatter:
    return go.Scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": LEFT_OUT, "width": 1, "dash": "dot"}, hoverinfo="skip"
    )


def _unit_square(figure: go.Figure, x: str, y: str) -> go.Figure:
    plain(figure, height=300, x=x, y=y, legend=False)
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.02, 1.02])
    return figure
