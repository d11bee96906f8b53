"""Diversity and distance to robot data for every possible cut."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from emt_core.explore.figures.layout import mark_x, plain
from emt_core.explore.figures.palette import ROBOT, SELECTED

MAX_POINTS = 400
FIRST_ROWS = 30
"""Cuts with fewer rows of the subsample are not drawn: both measures are noise there."""


def sweep(table: pd.DataFrame, *, at_share: float | None = None) -> go.Figure:
    """Diversity S(D) (left) and squared MMD to robot data (right) over the share of the pool kept.

    table: `diversity`, `mmd2_to_robot` of the seeded subsample in falling order of score.
    """
    step = max(1, len(table) // MAX_POINTS)
    shown = slice(min(FIRST_ROWS, len(table) - 1), None, step)
    kept = (np.arange(len(table)) + 1) / max(len(table), 1)
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    for column, (field, name, color) in enumerate(
        (("diversity", "diversity S(D)", SELECTED), ("mmd2_to_robot", "MMD² to robot data", ROBOT)),
        start=1,
    ):
        figure.add_trace(
            go.Scatter(
                x=kept[shown],
                y=table[field].to_numpy()[shown],
                mode="lines",
                line={"color": color, "width": 2},
                name=name,
                hovertemplate="keep %{x:.1%}: %{y:.3f}<extra>" + name + "</extra>",
            ),
            row=1,
            col=column,
        )
        figure.update_yaxes(title_text=name, row=1, col=column)
        if at_share is not None:
            mark_x(figure, at_share, "cut", row=1, col=column)
    plain(figure, height=260, legend=False)
    figure.update_xaxes(title_text="share of the pool kept", tickformat=".0%")
    figure.update_yaxes(title_text="diversity S(D)", row=1, col=1)
    figure.update_yaxes(title_text="MMD² to robot data", row=1, col=2)
    figure.update_layout(margin_t=30)
    return figure
