"""Composition of a pool, a selection or a region, as shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from emt_core.explore import numbers
from emt_core.explore.figures.layout import bars, plain
from emt_core.explore.figures.palette import LEFT_OUT, fade


def before_after(
    names: Sequence[str],
    before: Sequence[int] | np.ndarray,
    after: Sequence[int] | np.ndarray,
    colors: Mapping[str, str],
    *,
    labels: tuple[str, str] = ("pool", "selected"),
) -> go.Figure:
    """Two bars per group, its share of the pool (pale) and of the selection (full), largest on top."""
    pool = np.asarray(before, float)
    chosen = np.asarray(after, float)
    order = [int(i) for i in np.argsort(pool, kind="stable") if pool[i] or chosen[i]]
    shares = [part / max(part.sum(), 1) for part in (pool, chosen)]
    figure = go.Figure()
    for label, counts, part, alpha in (
        (labels[1], chosen, shares[1], 1.0),
        (labels[0], pool, shares[0], 0.32),
    ):
        figure.add_trace(
            bars(
                [names[i] for i in order],
                part[order],
                color=[fade(colors.get(names[i], LEFT_OUT), alpha) for i in order],
                text=[numbers.share(float(part[i])) for i in order],
                hover="%{y}: %{customdata:,} samples, %{x:.1%}<extra>" + label + "</extra>",
                name=label,
                textfont={"size": 11},
                customdata=counts[order],
            )
        )
    plain(figure, height=64 + 40 * max(len(order), 2), legend=False)
    top = max(float(shares[0].max(initial=0)), float(shares[1].max(initial=0)), 0.05)
    figure.update_xaxes(tickformat=".0%", range=[0, top * 1.18], showgrid=True, nticks=6)
    figure.update_yaxes(showgrid=False)
    figure.update_layout(barmode="group", bargap=0.28, bargroupgap=0.06)
    return figure


def shares_bar(
    names: Sequence[str], counts: Sequence[int] | np.ndarray, colors: Mapping[str, str]
) -> go.Figure:
    """A bar per group with its share, largest on top; empty groups are not drawn."""
    values = np.asarray(counts, float)
    order = [int(i) for i in np.argsort(values, kind="stable") if values[i] > 0]
    total = max(values.sum(), 1)
    trace = bars(
        [names[i] for i in order],
        [values[i] / total for i in order],
        color=[colors.get(names[i], LEFT_OUT) for i in order],
        text=[numbers.share(values[i] / total) for i in order],
        hover="%{y}: %{customdata:,} samples<extra></extra>",
        textfont={"size": 11},
        customdata=[values[i] for i in order],
    )
    figure = go.Figure(trace)
    plain(figure, height=24 + 26 * max(len(order), 1), legend=False)
    figure.update_xaxes(visible=False, range=[0, max((values.max(initial=0) / total) * 1.25, 0.05)])
    figure.update_yaxes(showgrid=False)
    return figure
