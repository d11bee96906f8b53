"""Question types of each source: a stacked bar per source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from emt_core.explore.figures.layout import plain
from emt_core.explore.figures.palette import LEFT_OUT


def source_mix(
    sources: Sequence[str],
    categories: Sequence[str],
    counts: np.ndarray,
    colors: Mapping[str, str],
) -> go.Figure:
    """Shares of the categories, first source on top. counts: int [sources, categories]."""
    total = np.maximum(counts.sum(axis=1), 1)
    figure = go.Figure()
    for place, name in enumerate(categories):
        if not counts[:, place].any():
            continue
        figure.add_trace(
            go.Bar(
                y=list(sources),
                x=counts[:, place] / total,
                orientation="h",
                name=name,
                marker={"color": colors.get(name, LEFT_OUT), "line": {"width": 0}},
                customdata=counts[:, place],
                hovertemplate="%{y}: %{customdata:,} samples, %{x:.1%}<extra>" + name + "</extra>",
            )
        )
    plain(figure, height=90 + 30 * max(len(sources), 2))
    figure.update_layout(barmode="stack", bargap=0.3, legend_traceorder="normal")
    figure.update_xaxes(tickformat=".0%", range=[0, 1], showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure
