"""Closed-loop success: by task, over checkpoints, between arms, beside the paper (section 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from emt_core.explore import numbers
from emt_core.explore.figures.layout import bars, interval, name_rows, plain
from emt_core.explore.figures.palette import LEFT_OUT, POOL, SELECTED, SOURCE_CYCLE, fade

Row = Mapping[str, Any]
KNOWN = {"none": LEFT_OUT, "random": POOL, "learned": SELECTED}
"""Arms with a color of their own: the selection is violet on every page."""

LONGEST_NAME = 34
ROW_HEIGHT = 26


def arm_colors(names: Sequence[str]) -> dict[str, str]:
    """Arm -> color."""
    free = iter(color for color in SOURCE_CYCLE * 4 if color not in KNOWN.values())
    return {name: KNOWN.get(name) or next(free) for name in names}


def short_task(name: str) -> str:
    """`LIVING_ROOM_SCENE2_put_both_...` -> `put both ...`, shortened, without a version (`-v3`)."""
    words = name.split("_")
    if "SCENE" in name:
        words = words[next(n for n, word in enumerate(words) if word.startswith("SCENE")) + 1 :]
    text = " ".join(words).removesuffix("-v3").removeprefix("widowx ")
    return escape(text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1].rstrip() + "…")


def by_task(rows: Sequence[Row], colors: Mapping[str, str]) -> go.Figure:
    """Success of each task with its 95 % interval; one dot per arm, best task on top.

    rows: arm, task, n, successes, rate, low, high (evaluation/comparison/arms.py by_task). Those
    without a rate are left out.
    """
    rows = _with_rate(rows)
    tasks = _best_first(rows)
    figure = go.Figure()
    arms = [arm for arm in colors if any(row["arm"] == arm for row in rows)]
    for place, arm in enumerate(arms):
        mine = {row["task"]: row for row in rows if row["arm"] == arm}
        shown = [(level, mine[task]) for level, task in enumerate(tasks) if task in mine]
        figure.add_trace(
            go.Scatter(
                x=[row["rate"] for _, row in shown],
                y=[level + _offset(place, len(arms)) for level, _ in shown],
                error_x=_interval([row for _, row in shown]),
                mode="markers",
                name=escape(arm),
                marker={"color": colors[arm], "size": 9},
                customdata=[
                    [escape(row["task"]), row["successes"], row["n"], row["low"], row["high"]]
                    for _, row in shown
                ],
                hovertemplate="%{customdata[0]}<br>%{customdata[1]} of %{customdata[2]} episodes: "
                "<b>%{x:.1%}</b><br>95 %: %{customdata[3]:.1%} to %{customdata[4]:.1%}"
                f"<extra>{escape(arm)}</extra>",
            )
        )
    plain(figure, height=_height(len(tasks), len(arms)), x="success", legend=len(arms) > 1)
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%")
    name_rows(figure, [short_task(task) for task in tasks], first_on_top=True)
    return figure


def dynamics(rows: Sequence[Row], colors: Mapping[str, str]) -> go.Figure:
    """Success over fine-tuning checkpoints with a 95 % band, a line per arm (paper, Fig. 3).

    rows: arm, checkpoint, runs, n, rate, low, high (evaluation/comparison/arms.py dynamics). Those
    without a rate are left out.
    """
    rows = _with_rate(rows)
    figure = go.Figure()
    for arm, color in colors.items():
        mine = [row for row in rows if row["arm"] == arm]
        if not mine:
            continue
        steps = [row["checkpoint"] for row in mine]
        band = {
            "x": steps,
            "mode": "lines",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
        }
        figure.add_trace(go.Scatter(y=[row["low"] for row in mine], legendgroup=arm, **band))
        filled = {"fill": "tonexty", "fillcolor": fade(color, 0.16)}
        figure.add_trace(
            go.Scatter(y=[row["high"] for row in mine], legendgroup=arm, **filled, **band)
        )
        figure.add_trace(
            go.Scatter(
                x=steps,
                y=[row["rate"] for row in mine],
                mode="lines+markers",
                name=escape(arm),
                legendgroup=arm,
                line={"color": color, "width": 2},
                marker={"size": 7},
                customdata=[[row["n"], row["low"], row["high"]] for row in mine],
                hovertemplate="step %{x:,}: <b>%{y:.1%}</b> of %{customdata[0]} episodes"
                "<br>95 %: %{customdata[1]:.1%} to %{customdata[2]:.1%}"
                f"<extra>{escape(arm)}</extra>",
            )
        )
    plain(figure, height=340, x="fine-tuning step", y="mean success")
    figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%")
    figure.update_layout(hovermode="closest")
    return figure


def differences(rows: Sequence[Row], colors: Mapping[str, str], reference: str) -> go.Figure:
    """Arm minus reference on the same episodes, with its 95 % interval.

    rows: arm, difference, low, high, p (shares; not percent).
    """
    figure = go.Figure(
        go.Scatter(
            x=[row["difference"] for row in rows],
            y=[escape(row["arm"]) for row in rows],
            # without a color plotly draws black, which is lost on a dark background
            error_x=_interval(rows, "difference", color=LEFT_OUT),
            mode="markers",
            marker={"color": [colors[row["arm"]] for row in rows], "size": 10},
            customdata=[[row["low"], row["high"], row["p"]] for row in rows],
            hovertemplate="%{y}: <b>%{x:+.1%}</b><br>95 %: %{customdata[0]:+.1%} to "
            "%{customdata[1]:+.1%}<br>p = %{customdata[2]:.3f}<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"color": LEFT_OUT, "width": 1, "dash": "dot"})
    title = f"difference in success to {escape(reference)}"
    plain(figure, height=_height(len(rows), 1), x=title, legend=False)
    most = max(0.1, *(max(abs(row["low"]), abs(row["high"])) for row in rows)) * 1.1
    figure.update_xaxes(range=[-most, most], tickformat="+.0%")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def beside_paper(ours: Sequence[Row], papers: Sequence[Row], unit: str) -> go.Figure:
    """Bars, ours filled, the paper's outlined.

    ours, papers: with `name`, `value` and `from` (who measured it).
    """
    rows = [*ours, *sorted(papers, key=lambda row: -row["value"])]
    figure = go.Figure()
    for group, name in ((ours, "measured here"), (papers, "reported in the paper")):
        mine = [row for row in rows if row in group]
        if not mine:
            continue
        filled = group is ours
        trace = bars(
            [escape(row["name"]) for row in mine],
            [row["value"] for row in mine],
            color=SELECTED if filled else fade(LEFT_OUT, 0.25),
            text=[numbers.decimal(row["value"], 2 if unit != "%" else 1) for row in mine],
            hover="%{y}: <b>%{x}</b> " + unit + "<br>%{customdata}<extra></extra>",
            name=name,
            customdata=[row["from"] for row in mine],
        )
        trace.update(marker_line={"color": SELECTED if filled else LEFT_OUT, "width": 1})
        figure.add_trace(trace)
    title = "mean success, %" if unit == "%" else "goals completed of 5"
    plain(figure, height=_height(len(rows), 1), x=title)
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=[escape(row["name"]) for row in rows][::-1],
        showgrid=False,
    )
    figure.update_layout(bargap=0.35)
    return figure


def _with_rate(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["rate"] is not None]


def _best_first(rows: Sequence[Row]) -> list[str]:
    rates: dict[str, list[float]] = {}
    for row in rows:
        rates.setdefault(row["task"], []).append(row["rate"])
    return sorted(rates, key=lambda task: (-sum(rates[task]) / len(rates[task]), task))


def _offset(place: int, count: int) -> float:
    """Where an arm's dot lies within a task's row."""
    return 0.0 if count == 1 else (place - (count - 1) / 2) * min(0.16, 0.64 / count)


def _interval(rows: Sequence[Row], middle: str = "rate", **more: Any) -> dict[str, Any]:
    columns = ([row[name] for row in rows] for name in (middle, "low", "high"))
    return interval(*columns, width=3, **more)


def _height(rows: int, arms: int) -> int:
    return 96 + rows * (ROW_HEIGHT + 14 * (arms - 1))
