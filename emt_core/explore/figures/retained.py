"""What the VLM keeps through mid-training (Table 7): right answers before and after, by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from emt_core.explore.figures.layout import plain
from emt_core.explore.figures.palette import LEFT_OUT, SELECTED

SIDES = (("origin", "origin", LEFT_OUT, -0.16), ("midtrained", "mid-trained", SELECTED, 0.16))

_SUITES = ("POPE", "BLINK", "VisuLogic", "3DSRBench", "SpatialEval")
PAPER = tuple(
    {"model": model, **dict(zip(_SUITES, values, strict=True))}
    for model, values in (
        ("InternVL3.5-1B", (86.33, 43.45, 21.00, 47.87, 49.82)),
        ("+ EmbodiedMidtrain", (86.29, 40.45, 24.90, 49.51, 48.00)),
    )
)
"""As the paper reports them; never to be shown without saying so."""


def before_and_after(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Two dots a category with their 95 % intervals.

    rows: `category`, `n`, and `origin` and `midtrained` with `rate`, `low`, `high`.
    """
    figure = go.Figure()
    for side, name, color, offset in SIDES:
        facts = [row[side] for row in rows]
        figure.add_trace(
            go.Scatter(
                x=[fact["rate"] for fact in facts],
                y=[place + offset for place in range(len(rows))],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [fact["high"] - fact["rate"] for fact in facts],
                    "arrayminus": [fact["rate"] - fact["low"] for fact in facts],
                    "thickness": 1.5,
                    "width": 0,
                },
                mode="markers",
                name=name,
                marker={"color": color, "size": 9},
                customdata=[
                    [escape(row["category"]), row["n"], fact["low"], fact["high"]]
                    for row, fact in zip(rows, facts, strict=True)
                ],
                hovertemplate="%{customdata[0]}, %{customdata[1]} questions: <b>%{x:.1%}</b>"
                "<br>95 %: %{customdata[2]:.1%} to %{customdata[3]:.1%}<extra>" + name + "</extra>",
            )
        )
    plain(figure, height=90 + 34 * len(rows), x="right answers")
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%")
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=[escape(row["category"]) for row in rows],
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
    )
    return figure
