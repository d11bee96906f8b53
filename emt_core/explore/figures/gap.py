"""The gap between pool and robot data: MMD matrix, ranking of pool sources, diversity (method sections 3 and 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from emt_core.explore import numbers
from emt_core.explore.figures.layout import plain
from emt_core.explore.figures.palette import LEFT_OUT, POOL, ROBOT, ROLE, SELECTED, fade

NEAR_FAR = ((0.0, "#E9E4F7"), (0.35, "#A99BDB"), (0.7, "#6A55A8"), (1.0, "#2E1F5E"))
"""One hue, light to dark: neither the pool's blue nor the robots' orange, which stand at the margin."""

NUMBERED_UP_TO = 14
STRIP = 0.34


def mmd_matrix(
    values: np.ndarray, names: Sequence[str], roles: Sequence[str], *, normalized: bool
) -> go.Figure:
    """Heatmap of float [n, n] in the order given, with a strip at either margin that says which group a source is in.

    Up to NUMBERED_UP_TO sources, each cell shows its value.
    """
    count = len(names)
    top = float(values.max(initial=0)) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(range(count)),
            y=list(range(count)),
            zmin=0,
            zmax=1 if normalized else top,
            colorscale=[list(stop) for stop in NEAR_FAR],
            customdata=[[f"{names[y]} and {names[x]}" for x in range(count)] for y in range(count)],
            hovertemplate="%{customdata}: %{z:.3f}<extra></extra>",
            text=[[_short(value) for value in row] for row in values]
            if count <= NUMBERED_UP_TO
            else None,
            texttemplate="%{text}" if count <= NUMBERED_UP_TO else None,
            textfont={"size": 12 if count <= 6 else 10},
            xgap=1,
            ygap=1,
            colorbar={
                "thickness": 10,
                "outlinewidth": 0,
                "title": {"text": "MMD²", "side": "top"},
                "len": 0.9,
            },
        )
    )
    for place, role in enumerate(roles):
        for axis in ("x", "y"):
            along, across = ("x", "y") if axis == "x" else ("y", "x")
            figure.add_shape(
                type="rect",
                **{
                    f"{along}0": place - 0.47,
                    f"{along}1": place + 0.47,
                    f"{across}0": -0.56 - STRIP,
                    f"{across}1": -0.56,
                },
                fillcolor=ROLE[role],
                line={"width": 0},
            )
    for role, label in (("pool", "pool"), ("robot", "robot data")):
        figure.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode="markers",
                marker={"symbol": "square", "size": 11, "color": ROLE[role]},
                name=label,
            )
        )
    plain(figure, height=130 + 44 * max(count, 4))
    ticks = {"tickvals": list(range(count)), "ticktext": list(names), "showgrid": False}
    figure.update_xaxes(
        range=[-0.6 - STRIP, count - 0.5], tickangle=-40 if count > 4 else 0, **ticks
    )
    figure.update_yaxes(range=[count - 0.5, -0.6 - STRIP], **ticks)
    return figure


def _short(value: float) -> str:
    """`.42`, `1.0`: two digits, so that cells stay readable."""
    return f"{value:.2f}".removeprefix("0") if value < 0.995 else f"{value:.1f}"


def ranked(pairs: Sequence[tuple[str, float]], colors: Mapping[str, str]) -> go.Figure:
    """Pool sources by squared MMD to a robot set, nearest on top."""
    names, values = [name for name, _ in pairs][::-1], [value for _, value in pairs][::-1]
    figure = go.Figure(
        go.Bar(
            y=names,
            x=values,
            orientation="h",
            marker={"color": [colors.get(name, POOL) for name in names], "line": {"width": 0}},
            text=[numbers.decimal(value) for value in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )
    )
    plain(figure, height=70 + 32 * max(len(names), 2), x="MMD²", legend=False)
    low, high = min([*values, 0.0]), max([*values, 1e-6])
    figure.update_xaxes(range=[low * 1.1, high * 1.22])
    figure.update_yaxes(showgrid=False)
    return figure


def diversity_bars(
    sources: Mapping[str, float],
    groups: Mapping[str, float],
    colors: Mapping[str, str],
    paper: Mapping[str, float],
) -> go.Figure:
    """S(D) of each source and of the groups; diamonds are the paper's figures for groups of the same name.

    groups: name -> S(D), shown on top in full colour; `pool`, `robot`, `selected` have their own colours.
    """
    own = {"pool": POOL, "robot": ROBOT, "selected": SELECTED}
    ranked_sources = sorted(sources.items(), key=lambda pair: pair[1])
    top_down = list(groups.items())[::-1]
    names = [name for name, _ in ranked_sources] + [
        f"all {n}" if n != "selected" else n for n, _ in top_down
    ]
    values = [value for _, value in (*ranked_sources, *top_down)]
    shades = [fade(colors.get(name, LEFT_OUT), 0.55) for name, _ in ranked_sources]
    shades += [own.get(name, LEFT_OUT) for name, _ in top_down]
    figure = go.Figure(
        go.Bar(
            y=names,
            x=[value - 1 for value in values],
            base=1,
            customdata=values,
            orientation="h",
            name="here",
            showlegend=False,
            marker={"color": shades, "line": {"width": 0}},
            text=[numbers.decimal(value, 2) for value in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{customdata:.3f}<extra></extra>",
        )
    )
    given = [
        (f"all {name}" if name != "selected" else name, paper[name])
        for name in groups
        if name in paper
    ]
    if given:
        figure.add_trace(
            go.Scatter(
                y=[name for name, _ in given],
                x=[value for _, value in given],
                mode="markers",
                name="in the paper, for its own data",
                marker={
                    "symbol": "diamond-open",
                    "size": 11,
                    "color": LEFT_OUT,
                    "line": {"width": 2},
                },
                hovertemplate="the paper, its own data: %{x:.2f}<extra></extra>",
            )
        )
    plain(
        figure,
        height=80 + 30 * max(len(names), 2),
        x="diversity S(D); 1 = all alike",
        legend=bool(given),
    )
    top = max([*values, *(value for _, value in given), 1.2])
    figure.update_xaxes(range=[1, top + 0.16 * (top - 1)])
    figure.update_yaxes(showgrid=False)
    return figure
