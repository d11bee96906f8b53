"""How much relevant content each selection of an ablation holds."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from emt_core.explore import numbers
from emt_core.explore.figures.layout import bars, mark_x, plain
from emt_core.explore.figures.palette import LEFT_OUT, SELECTED


def planted_bars(
    names: Sequence[str],
    values: Sequence[float | None],
    kinds: Sequence[str],
    *,
    chance: float | None,
) -> go.Figure:
    """A bar per selection: its share of relevant content, first on top; dashed line: chance.

    names: unique labels. kinds: baselines ("random", "all") are gray. None has no bar.
    """
    shown = [value or 0.0 for value in values]
    colors = [LEFT_OUT if kind in ("random", "all") else SELECTED for kind in kinds]
    trace = bars(
        names[::-1],
        shown[::-1],
        color=colors[::-1],
        text=[numbers.share(value) for value in values[::-1]],
        hover="%{y}: %{x:.1%} relevant content<extra></extra>",
    )
    figure = go.Figure(trace)
    height = 70 + 26 * max(len(names), 2)
    plain(figure, height=height, x="relevant content among the selected", legend=False)
    most = max([*shown, chance or 0.0])
    figure.update_xaxes(tickformat=".0%", range=[0, min(most * 1.15 + 0.02, 1.08)])
    figure.update_yaxes(showgrid=False)
    if chance is not None:
        figure.update_layout(margin_t=28)
        mark_x(figure, chance, "chance")
        # above the plot: inside it would cover the first bar's value
        figure.update_annotations(yanchor="bottom")
    return figure
