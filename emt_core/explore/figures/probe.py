"""Probes of arms beside the origin, and drift by layer group. Pure figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from emt_core.explore.figures.layout import interval, name_rows, plain
from emt_core.explore.figures.palette import LEFT_OUT, POOL, ROBOT, SELECTED

KINDS = {
    "robot": ("robot frames", ROBOT),
    "selected": ("selected samples", SELECTED),
    "general": ("general samples", POOL),
}
GROUPS = {
    "vision_early": "vision, first half",
    "vision_late": "vision, end",
    "projector": "projector",
    "language_early": "language, first half",
    "language_late": "language, end",
}


def gained(rows: Sequence[Mapping[str, Any]], colors: Mapping[str, str]) -> go.Figure:
    """A dot an arm in each row of what is asked, with its 95 % interval.

    rows: `asked`, `arm`, `gain`, `low`, `high`. colors: by arm.
    """
    asked = list(dict.fromkeys(row["asked"] for row in rows))
    figure = go.Figure()
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    for place, arm in enumerate(arms):
        mine = [row for row in rows if row["arm"] == arm]
        offset = 0.6 * ((place + 0.5) / len(arms) - 0.5)
        gain, low, high = ([row[name] for row in mine] for name in ("gain", "low", "high"))
        figure.add_trace(
            go.Scatter(
                x=gain,
                y=[asked.index(row["asked"]) + offset for row in mine],
                error_x=interval(gain, low, high, width=0),
                mode="markers",
                name=escape(arm),
                marker={"color": colors[arm], "size": 9},
                customdata=list(zip(low, high, strict=True)),
                hovertemplate="<b>%{x:+.3f}</b><br>95 %: %{customdata[0]:+.3f} to"
                " %{customdata[1]:+.3f}<extra>" + escape(arm) + "</extra>",
            )
        )
    plain(
        figure,
        height=110 + len(asked) * max(34, 14 * len(arms)),
        x="change against the model before (right: read better)",
    )
    figure.add_vline(x=0, line={"color": LEFT_OUT, "width": 1})
    name_rows(figure, [escape(name) for name in asked], first_on_top=True)
    return figure


def drift(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Linear CKA by layer group, a dot for each kind of picture. rows: of results.json."""
    groups = [group for group in GROUPS if any(row["group"] == group for row in rows)]
    figure = go.Figure()
    for place, (kind, (name, color)) in enumerate(KINDS.items()):
        mine = [row for row in rows if row["images"] == kind]
        if not mine:
            continue
        figure.add_trace(
            go.Scatter(
                x=[row["cka"] for row in mine],
                y=[groups.index(row["group"]) + 0.2 * (place - 1) for row in mine],
                mode="markers",
                name=name,
                marker={"color": color, "size": 9},
                customdata=[(row["overlap"], row["samples"]) for row in mine],
                hovertemplate="likeness <b>%{x:.3f}</b>, neighbors kept %{customdata[0]:.1%}"
                "<br>%{customdata[1]:,} samples<extra>" + name + "</extra>",
            )
        )
    plain(figure, height=90 + 40 * len(groups), x="likeness to the model before (1: unmoved)")
    lowest = min((row["cka"] for row in rows), default=0.0)
    figure.update_xaxes(range=[min(0.0, lowest) - 0.02, 1.02])
    name_rows(figure, [GROUPS[group] for group in groups], first_on_top=True)
    return figure
