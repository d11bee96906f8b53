"""Score distributions as histograms and violins, drawn from binned counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from emt_core.explore import numbers
from emt_core.explore.figures.layout import mark_x, name_rows, plain
from emt_core.explore.figures.palette import LEFT_OUT, fade
from emt_core.explore.tables.scores import Distribution

VIOLIN_HALF = 0.42
LOG_FLOOR = 1e-5


def histogram(
    data: Distribution,
    colors: Mapping[str, str],
    *,
    axis: str,
    log: bool = False,
    cut: float | None = None,
    cut_label: str = "cut",
    labels: Mapping[str, str] | None = None,
    height: int = 340,
) -> go.Figure:
    """A filled step curve per group, each with area 1. axis: title of the x axis."""
    figure = go.Figure()
    for name, density, total, mean in zip(
        data.names, data.density, data.totals, data.mean, strict=True
    ):
        shown = np.where(density > 0, density, np.nan) if log else density
        label = (labels or {}).get(name, name)
        color = colors.get(name, LEFT_OUT)
        figure.add_trace(
            go.Scatter(
                x=data.centers,
                y=shown,
                name=f"{label} ({numbers.short(int(total))})",
                mode="lines",
                line={"color": color, "width": 1.6, "shape": "hvh"},
                fill=None if log else "tozeroy",
                fillcolor=fade(color, 0.25),
                customdata=data.counts[data.names.index(name)],
                hovertemplate="%{x:.4~g}: %{customdata:,} samples"
                f"<extra>{label}, mean {numbers.decimal(float(mean), 2)}</extra>",
            )
        )
    plain(figure, height=height, x=axis, y="density")
    if log:
        top = float(np.nanmax(data.density)) if data.totals.any() else 1.0
        low = float(data.density[data.density > 0].min()) if data.totals.any() else LOG_FLOOR
        ends = [np.log10(max(low, LOG_FLOOR) / 2), np.log10(top * 2)]
        figure.update_yaxes(type="log", range=ends)
    else:
        figure.update_yaxes(rangemode="tozero")
    if cut is not None and np.isfinite(cut):
        mark_x(figure, cut, cut_label)
    return figure


def violins(
    data: Distribution,
    colors: Mapping[str, str],
    *,
    axis: str,
    log: bool = False,
    cut: float | None = None,
    chosen: Distribution | None = None,
) -> go.Figure:
    """A horizontal violin per group with median and middle half, the first group on top.

    log: widths by log(1 + count). chosen: the same groups after selection, on the same bins; then
    the upper half is the whole group (pale) and the lower half its selected part.
    """
    figure = go.Figure()
    groups = len(data.names)
    after = chosen.pick(data.names) if chosen is not None else None
    for place, name in enumerate(data.names):
        base = groups - 1 - place
        halves = (
            ((data, 0.45, 1, 1),) if after is None else ((data, 0.25, 1, 0), (after, 0.8, 0, 1))
        )
        whole = data.counts[place]
        top = max(float((np.log1p(whole) if log else _smooth(whole)).max()), 1e-12)
        for part, alpha, above, below in halves:
            counts = part.counts[part.names.index(name)]
            # smoothing must not make the selected part look larger than the whole
            height = np.minimum((np.log1p(counts) if log else _smooth(counts)) / top, 1)
            width = height * VIOLIN_HALF
            filled = np.flatnonzero(width > VIOLIN_HALF * 2e-3)
            if not len(filled):
                continue
            span = slice(filled[0], filled[-1] + 1)
            x = data.centers[span]
            w = width[span]
            color = colors.get(name, LEFT_OUT)
            what = name + (", selected" if part is after else "")
            figure.add_trace(
                go.Scatter(
                    x=np.concatenate([x, x[::-1]]),
                    y=np.concatenate([base + above * w, base - below * w[::-1]]),
                    mode="lines",
                    line={"color": color, "width": 1},
                    fill="toself",
                    fillcolor=fade(color, alpha),
                    name=what,
                    text=_summary(part, part.names.index(name), what),
                    hoveron="fills",
                    hoverinfo="text",
                )
            )
        _, first, median, third, _ = data.quantiles[place]
        if not np.isfinite(median):
            continue
        color = colors.get(name, LEFT_OUT)
        figure.add_trace(
            go.Scatter(
                x=[first, median, third],
                y=[base] * 3,
                mode="lines+markers",
                line={"color": color, "width": 3},
                marker={
                    "color": ["rgba(0,0,0,0)", "white", "rgba(0,0,0,0)"],
                    "size": 8,
                    "line": {"width": 0},
                },
                hoverinfo="skip",
                name=name,
            )
        )
    return _in_rows(figure, data.names, 44, axis, cut)


def histograms(
    data: Distribution,
    colors: Mapping[str, str],
    *,
    axis: str,
    log: bool = False,
    cut: float | None = None,
    chosen: Distribution | None = None,
) -> go.Figure:
    """A step histogram per group, each scaled to its row, the first group on top.

    log: heights by log(1 + count). chosen: the selected part of each group, drawn inside it.
    """
    figure = go.Figure()
    groups = len(data.names)
    after = chosen.pick(data.names) if chosen is not None else None
    for place, name in enumerate(data.names):
        base = groups - 1 - place - VIOLIN_HALF
        counts = data.counts[place]
        top = max(float(np.log1p(counts.max()) if log else counts.max()), 1e-12)
        parts = [(counts, 0.28, name)]
        if after:
            parts.append((after.counts[place], 0.85, f"{name}, selected"))
        for held, alpha, what in parts:
            height = (np.log1p(held) if log else held) / top * 2 * VIOLIN_HALF
            color = colors.get(name, LEFT_OUT)
            figure.add_trace(
                go.Scatter(
                    x=np.r_[data.edges[0], data.centers, data.edges[-1]],
                    y=base + np.r_[0.0, height, 0.0],
                    mode="lines",
                    line={"color": color, "width": 1.2, "shape": "hvh"},
                    fill="toself",
                    fillcolor=fade(color, alpha),
                    name=what,
                    customdata=np.r_[0, held, 0],
                    hovertemplate="%{x:.4~g}: %{customdata:,} samples<extra>" + what + "</extra>",
                )
            )
    return _in_rows(figure, data.names, 52, axis, cut)


def _in_rows(
    figure: go.Figure, names: Sequence[str], row_px: int, axis: str, cut: float | None
) -> go.Figure:
    """Lay out a figure with a row per group, and mark the cut."""
    plain(figure, height=70 + row_px * max(len(names), 2), x=axis, legend=False)
    name_rows(figure, names[::-1])
    if cut is not None and np.isfinite(cut):
        figure.update_layout(margin_t=28)
        mark_x(figure, cut, "cut")
    return figure


def _summary(part: Distribution, place: int, what: str) -> str:
    low, first, median, third, high = part.quantiles[place]
    return (
        f"<b>{what}</b><br>{int(part.totals[place]):,} samples<br>median {median:.2f}, "
        f"mean {numbers.decimal(float(part.mean[place]), 2)}<br>"
        f"middle half {first:.2f} to {third:.2f}<br>5 % to 95 % {low:.2f} to {high:.2f}"
    )


def _smooth(counts: np.ndarray) -> np.ndarray:
    """Counts smoothed with a small triangle: without it, a small group looks like a comb."""
    reach = int(np.clip(round(40 / max(np.sqrt(counts.sum()), 1)), 1, 8))
    kernel = np.concatenate([np.arange(1, reach + 2), np.arange(reach, 0, -1)]).astype(float)
    return np.convolve(counts, kernel / kernel.sum(), mode="same")
