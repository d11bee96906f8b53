"""Measures and strategies side by side: what each selection holds of the content that is known to be near."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from emt_core.explore import numbers
from emt_core.explore.figures.layout import mark_x, plain
from emt_core.explore.figures.palette import LEFT_OUT, SELECTED


def planted_bars(
    names: Sequence[str],
    values: Sequence[float | None],
    kinds: Sequence[str],
    *,
    chance: float | None,
) -> go.Figure:
    """A bar a selection: share of near content in it, first on top; the dashed line is a blind choice.

    names: unique labels; kinds: the random baselines ("random") are drawn grey. A missing value has no bar.
    """
    order = range(len(names) - 1, -1, -1)
    shown = [values[i] or 0.0 for i in order]
    figure = go.Figure(
        go.Bar(
            y=[names[i] for i in order],
            x=shown,
            orientation="h",
            marker={
                "color": [LEFT_OUT if kinds[i] in ("random", "all") else SELECTED for i in order]
            },
            text=[numbers.share(values[i]) for i in order],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.1%} relevant content<extra></extra>",
        )
    )
    plain(
        figure,
        height=70 + 26 * max(len(names), 2),
        x="relevant content among the selected",
        legend=False,
    )
    figure.update_xaxes(
        tickformat=".0%", range=[0, min(max([*shown, chance or 0.0]) * 1.15 + 0.02, 1.08)]
    )
    figure.update_yaxes(showgrid=False)
    if chance is not None:
        figure.update_layout(margin_t=28)
        mark_x(figure, chance, "chance")
        figure.update_annotations(
            yanchor="bottom"
        )  # above the plot: inside it would cover the first bar's value
    return figure
