"""Correct answers before and after mid-training, by category (paper, Table 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from emt_core.explore.figures.layout import interval, name_rows, plain
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
"""As reported in the paper; always shown as such."""


def before_and_after(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Two dots per category with their 95 % intervals.

    rows: `category`, `n`, and `origin` and `midtrained` with `rate`, `low`, `high`.
    """
    figure = go.Figure()
    for side, name, color, offset in SIDES:
        rates, low, high = ([row[side][key] for row in rows] for key in ("rate", "low", "high"))
        categories = [escape(row["category"]) for row in rows]
        questions = [row["n"] for row in rows]
        figure.add_trace(
            go.Scatter(
                x=rates,
                y=[place + offset for place in range(len(rows))],
                error_x=interval(rates, low, high, width=0),
                mode="markers",
                name=name,
                marker={"color": color, "size": 9},
                customdata=list(zip(categories, questions, low, high, strict=True)),
                hovertemplate="%{customdata[0]}, %{customdata[1]} questions: <b>%{x:.1%}</b>"
                "<br>95 %: %{customdata[2]:.1%} to %{customdata[3]:.1%}<extra>" + name + "</extra>",
            )
        )
    plain(figure, height=90 + 34 * len(rows), x="correct answers")
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%")
    name_rows(figure, [escape(row["category"]) for row in rows], first_on_top=True)
    return figure
