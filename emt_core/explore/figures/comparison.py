"""Samples added and removed between two selections, by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from emt_core.explore import numbers
from emt_core.explore.figures.layout import bars, plain
from emt_core.explore.figures.palette import LEFT_OUT, fade


def in_and_out(
    names: Sequence[str], came_in: np.ndarray, went_out: np.ndarray, colors: Mapping[str, str]
) -> go.Figure:
    """Bars to the right for added samples (full), to the left for removed ones (pale).

    came_in, went_out: integer [groups]. The group that changes most is on top; groups that do not
    change are not drawn.
    """
    moved = came_in + went_out
    order = [int(i) for i in np.argsort(moved, kind="stable") if moved[i]]
    figure = go.Figure()
    for label, counts, sign, alpha in (
        ("added", came_in, 1, 1.0),
        ("removed", went_out, -1, 0.35),
    ):
        figure.add_trace(
            bars(
                [names[i] for i in order],
                [sign * int(counts[i]) for i in order],
                color=[fade(colors.get(names[i], LEFT_OUT), alpha) for i in order],
                text=[numbers.short(int(counts[i])) if counts[i] else "" for i in order],
                hover="%{y}: %{customdata:,} " + label + "<extra></extra>",
                name=label,
                textfont={"size": 11},
                customdata=[int(counts[i]) for i in order],
            )
        )
    plain(figure, height=56 + 28 * max(len(order), 2), legend=False)
    most = max(int(came_in.max(initial=0)), int(went_out.max(initial=0)), 1) * 1.3
    figure.update_xaxes(range=[-most, most], showticklabels=False, zeroline=True, zerolinewidth=1)
    figure.update_yaxes(showgrid=False)
    figure.update_layout(barmode="relative", bargap=0.3)
    return figure
