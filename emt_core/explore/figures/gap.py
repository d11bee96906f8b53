"""MMD matrix, nearest pool sources, diversity (method sections 3 and 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from emt_core.explore.figures.layout import bars, plain
from emt_core.explore.figures.palette import LEFT_OUT, POOL, ROBOT, ROLE, SELECTED, fade
from emt_core.explore.tables.measured import Measured

NEAR_FAR = ((0.0, "#E9E4F7"), (0.35, "#A99BDB"), (0.7, "#6A55A8"), (1.0, "#2E1F5E"))
"""One hue, light to dark; blue and orange are the pool's and the robot data's, at the margin."""

NUMBERED_UP_TO = 14
STRIP = 0.34


def mmd_matrix(
    values: np.ndarray, names: Sequence[str], roles: Sequence[str], *, normalized: bool
) -> go.Figure:
    """Heatmap of float [n, n] in the order given; a strip at each margin shows the roles.

    With at most NUMBERED_UP_TO sources, each cell shows its value.
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
    ends = {"0": -0.56 - STRIP, "1": -0.56}
    for place, role in enumerate(roles):
        sides = {"0": place - 0.47, "1": place + 0.47}
        for along, across in (("x", "y"), ("y", "x")):
            corners = {along + end: value for end, value in sides.items()}
            corners |= {across + end: value for end, value in ends.items()}
            figure.add_shape(type="rect", fillcolor=ROLE[role], line={"width": 0}, **corners)
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


def ranked(pairs: Sequence[tuple[str, Measured]], colors: Mapping[str, str]) -> go.Figure:
    """Pool sources by squared MMD to a robot set, nearest on top."""
    names = [name for name, _ in pairs][::-1]
    found = [one for _, one in pairs][::-1]
    values = [one.number for one in found]
    figure = go.Figure(
        bars(
            names,
            values,
            color=[colors.get(name, POOL) for name in names],
            text=[one.text for one in found],
            hover="%{y}: %{text}<extra></extra>",
        )
    )
    plain(figure, height=70 + 32 * max(len(names), 2), x="MMD²", legend=False)
    figure.update_xaxes(range=[min([*values, 0.0]) * 1.1, max([*values, 1e-6]) * 1.4])
    figure.update_yaxes(showgrid=False)
    return figure


def diversity_bars(
    sources: Mapping[str, Measured],
    groups: Mapping[str, Measured],
    colors: Mapping[str, str],
    paper: Mapping[str, float],
) -> go.Figure:
    """S(D) of each source and of the groups; diamonds: the paper's values for the same groups.

    groups: `pool`, `robot`, `selected` -> S(D), on top in full color.
    """
    own = {"pool": POOL, "robot": ROBOT, "selected": SELECTED}
    titles = {name: name if name == "selected" else f"all {name}" for name in groups}
    by_value = sorted(sources, key=sources.__getitem__)
    last_first = list(groups)[::-1]
    names = [*by_value, *(titles[name] for name in last_first)]
    found = [*(sources[name] for name in by_value), *(groups[name] for name in last_first)]
    values = [one.number for one in found]
    shades = [fade(colors.get(name, LEFT_OUT), 0.55) for name in by_value]
    shades += [own.get(name, LEFT_OUT) for name in last_first]
    figure = go.Figure(
        bars(
            names,
            [value - 1 for value in values],
            color=shades,
            text=[one.text for one in found],
            hover="%{y}: %{text}<extra></extra>",
            base=1,
            name="here",
            showlegend=False,
        )
    )
    figure.update_traces(textposition="none")
    given = {titles[name]: paper[name] for name in groups if name in paper}
    if given:
        figure.add_trace(
            go.Scatter(
                y=list(given),
                x=list(given.values()),
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
    # beside the bar, or beside the diamond where that lies to the right of it
    ends = [max(value, given.get(name, 1.0)) for name, value in zip(names, values, strict=True)]
    figure.add_trace(
        go.Scatter(
            y=names,
            x=ends,
            mode="text",
            # en spaces: plain ones are dropped from the start of a line
            text=[
                "\u2002" * (2 if name in given else 1) + one.text
                for name, one in zip(names, found, strict=True)
            ],
            textposition="middle right",
            cliponaxis=False,
            hoverinfo="skip",
            showlegend=False,
        )
    )
    height = 80 + 30 * max(len(names), 2)
    plain(figure, height=height, x="diversity S(D); 1 = all alike", legend=bool(given))
    top = max([*values, *given.values(), 1.2])
    figure.update_xaxes(range=[1, top + 0.55 * (top - 1)])
    figure.update_yaxes(showgrid=False)
    return figure
