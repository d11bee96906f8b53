"""Training and held-out performance of the proximity estimator (method section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from emt_core.explore.figures.layout import guide, mark_x, plain
from emt_core.explore.figures.palette import LEFT_OUT, POOL, ROBOT, SOURCE_CYCLE, fade

TRAIN, HELD = POOL, ROBOT
MAX_POINTS = 600
HEIGHT = 320


def training(
    steps: pd.DataFrame, *, stopped_at: int | None = None, target: float | None = None
) -> go.Figure:
    """Loss (left) and accuracy (right) over steps, training and validation, with stop and target.

    steps: columns step, loss, train_accuracy, val_loss, val_accuracy (NaN where not measured).
    """
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    thin = _thinned(steps)
    measured = _thinned(steps.loc[steps["val_loss"].notna()])
    for column, (train, held) in enumerate(
        (("loss", "val_loss"), ("train_accuracy", "val_accuracy")), start=1
    ):
        for frame, field, name, color in (
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
                    line={"color": color, "width": 1.2 if field == train else 2},
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


def run_colors(labels: Sequence[str]) -> dict[str, str]:
    """Estimator -> color; a single one is orange, the color of robot data."""
    if len(labels) == 1:
        return {labels[0]: ROBOT}
    return {label: SOURCE_CYCLE[place % len(SOURCE_CYCLE)] for place, label in enumerate(labels)}


def _thinned(steps: pd.DataFrame) -> pd.DataFrame:
    return steps.iloc[:: max(1, -(-len(steps) // MAX_POINTS))]


def learning(runs: Mapping[str, pd.DataFrame], colors: Mapping[str, str]) -> go.Figure:
    """Validation loss (left) and accuracy (right) over steps; a cross where each run stopped.

    runs: label -> columns step, val_loss, val_accuracy (NaN where not measured).
    """
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    for label, steps in runs.items():
        measured = steps.loc[steps["val_loss"].notna()]
        if measured.empty:
            continue
        thin = pd.concat([_thinned(measured), measured.iloc[[-1]]]).drop_duplicates("step")
        symbols = ["circle"] * (len(thin) - 1) + ["x"]
        sizes = [5] * (len(thin) - 1) + [11]
        for column, field in enumerate(("val_loss", "val_accuracy"), start=1):
            figure.add_trace(
                go.Scatter(
                    x=thin["step"],
                    y=thin[field],
                    name=label,
                    legendgroup=label,
                    showlegend=column == 1,
                    mode="lines+markers",
                    line={"color": colors.get(label, LEFT_OUT), "width": 2},
                    marker={"symbol": symbols, "size": sizes},
                    hovertemplate="step %{x}: %{y:.3f}<extra>" + label + "</extra>",
                ),
                row=1,
                col=column,
            )
    plain(figure, height=HEIGHT, x="step")
    figure.update_yaxes(title_text="validation loss", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="validation accuracy", tickformat=".0%", row=1, col=2)
    return figure


def rocs(runs: Mapping[str, Mapping[str, Sequence[float]]], colors: Mapping[str, str]) -> go.Figure:
    """runs: label -> `false_positive_rate`, `true_positive_rate` on held-out episodes."""
    figure = go.Figure(guide([0, 1], [0, 1]))
    for label, curve in runs.items():
        _line(
            figure,
            label,
            curve["false_positive_rate"],
            curve["true_positive_rate"],
            colors,
            hover="%{y:.1%} of robot frames at %{x:.1%} of the pool",
        )
    return _square(figure, "pool samples passed", "robot frames passed", several=len(runs) > 1)


def precision_recalls(
    runs: Mapping[str, Mapping[str, Sequence[float]]], colors: Mapping[str, str]
) -> go.Figure:
    """runs: label -> `recall`, `precision`; classes weigh half each, so chance is 50 %."""
    figure = go.Figure(guide([0, 1], [0.5, 0.5]))
    for label, curve in runs.items():
        _line(
            figure,
            label,
            curve["recall"],
            curve["precision"],
            colors,
            hover="%{x:.1%} of robot frames found at %{y:.1%} precision",
        )
    return _square(figure, "recall", "precision", several=len(runs) > 1)


def reliabilities(
    runs: Mapping[str, Mapping[str, Sequence[float]]], colors: Mapping[str, str]
) -> go.Figure:
    """Predicted probability against the observed share of robot data.

    runs: label -> `predicted`, `observed`, `weight` (share of all rows, a point's area) per bin.
    """
    figure = go.Figure(guide([0, 1], [0, 1]))
    for label, bins in runs.items():
        weight = np.asarray(bins["weight"], float)
        size = 6 + 14 * np.sqrt(weight / max(weight.max(initial=0), 1e-12))
        _line(
            figure,
            label,
            bins["predicted"],
            bins["observed"],
            colors,
            hover="predicted %{x:.2f}, observed %{y:.2f} (%{customdata:.1%} of the rows)",
            customdata=weight,
            mode="lines+markers",
            marker={"size": size, "opacity": 0.85},
        )
    several = len(runs) > 1
    return _square(figure, "predicted probability", "share of robot data", several=several)


def confusion(counts: np.ndarray) -> go.Figure:
    """int [2, 2]: rows robot, pool; columns predicted robot, predicted pool."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = ["robot frames", "pool samples"]
    predicted = ["predicted robot", "predicted pool"]
    colors = [[ROBOT, LEFT_OUT], [LEFT_OUT, POOL]]
    figure = go.Figure()
    for row in range(2):
        for column in range(2):
            figure.add_shape(
                type="rect",
                x0=column - 0.48,
                x1=column + 0.48,
                y0=row - 0.46,
                y1=row + 0.46,
                line={"width": 0},
                fillcolor=fade(colors[row][column], 0.08 + 0.32 * float(share[row, column])),
            )
    figure.add_trace(
        go.Scatter(
            x=[0, 1, 0, 1],
            y=[0, 0, 1, 1],
            mode="text",
            text=[
                f"<b>{share[r, c]:.1%}</b><br>{counts[r, c]:,}" for r in range(2) for c in range(2)
            ],
            textfont={"size": 14},
            hoverinfo="skip",
        )
    )
    plain(figure, height=210, legend=False)
    figure.update_xaxes(range=[-0.5, 1.5], tickvals=[0, 1], ticktext=predicted, showgrid=False)
    figure.update_yaxes(range=[1.5, -0.5], tickvals=[0, 1], ticktext=names, showgrid=False)
    return figure


def _line(
    figure: go.Figure,
    label: str,
    x: Sequence[float],
    y: Sequence[float],
    colors: Mapping[str, str],
    *,
    hover: str,
    **more: Any,
) -> None:
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            name=label,
            line={"color": colors.get(label, LEFT_OUT), "width": 2},
            hovertemplate=f"{hover}<extra>{label}</extra>",
            **{"mode": "lines", **more},
        )
    )


def _square(figure: go.Figure, x: str, y: str, *, several: bool) -> go.Figure:
    plain(figure, height=HEIGHT, x=x, y=y, legend=several)
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.02, 1.02])
    return figure
