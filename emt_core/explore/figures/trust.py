"""Figures of the Trust page: agreement, stability, audits, planted truth by style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from emt_core.explore.figures.layout import bars, plain
from emt_core.explore.figures.palette import LEFT_OUT, MARK, POOL, ROBOT, SELECTED, SOURCE_CYCLE

CORRELATION = ((0.0, "#A3ABB8"), (0.5, "#E8EAEE"), (1.0, SELECTED))
KIND = {"seed": POOL, "steps": "#009E73", "without robot set": ROBOT, "out of fold": "#AA3377"}
KIND_LABEL = {
    "seed": "another seed",
    "steps": "stopped after",
    "without robot set": "without",
    "out of fold": "unseen,",
}


def agreement_matrix(
    names: Sequence[str], matrix: Sequence[Sequence[float | None]], *, low: float = -1.0
) -> go.Figure:
    """A square heatmap with values, the first measure at the top left. low: value of the palest end."""
    values = np.array([[np.nan if v is None else v for v in row] for row in matrix], float)
    figure = go.Figure(
        go.Heatmap(
            z=values[::-1],
            x=list(names),
            y=list(names)[::-1],
            zmin=low,
            zmax=1,
            colorscale=[list(stop) for stop in CORRELATION],
            showscale=False,
            text=[["" if np.isnan(v) else f"{v:.2f}" for v in row] for row in values[::-1]],
            texttemplate="%{text}",
            textfont={"color": "#1B1F27"},
            xgap=2,
            ygap=2,
            hovertemplate="%{y} with %{x}: %{z:.3f}<extra></extra>",
        )
    )
    plain(figure, height=110 + 34 * len(names), legend=False)
    figure.update_xaxes(showgrid=False, tickangle=-35, side="bottom")
    figure.update_yaxes(showgrid=False)
    return figure


def stability_dots(
    kinds: Sequence[str], names: Sequence[str], spearman: Sequence[float], overlap: Sequence[float]
) -> go.Figure:
    """A row per repetition: rank correlation (full) and top-share overlap (open) with the score."""
    labels = [
        f"{KIND_LABEL.get(kind, kind)} {name}" for kind, name in zip(kinds, names, strict=True)
    ]
    figure = go.Figure()
    for values, name, symbol in (
        (spearman, "rank correlation", "circle"),
        (overlap, "overlap", "circle-open"),
    ):
        figure.add_trace(
            go.Scatter(
                x=list(values)[::-1],
                y=labels[::-1],
                name=name,
                mode="markers",
                marker={
                    "size": 10,
                    "symbol": symbol,
                    "color": [KIND.get(kind, LEFT_OUT) for kind in kinds][::-1],
                    "line": {"width": 2},
                },
                hovertemplate="%{y}: %{x:.3f}<extra>" + name + "</extra>",
            )
        )
    plain(figure, height=80 + 24 * max(len(labels), 3))
    low = min([*spearman, *overlap, 0.9])
    figure.update_xaxes(range=[low - 0.05, 1.02])
    figure.update_layout(legend={"itemsizing": "trace"})
    return figure


def audit_bars(
    variants: Mapping[str, Mapping[str, Any]], field: str, *, title: str, chance: float
) -> go.Figure:
    """A bar per variant of the samples; dashed line: chance. variants: with `name` and `field`."""
    known = [v for v in variants.values() if v.get(field) is not None][::-1]
    figure = go.Figure(
        bars(
            [variant["name"] for variant in known],
            [variant[field] for variant in known],
            color=POOL,
            text=[f"{variant[field]:.2f}" for variant in known],
            hover="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    plain(figure, height=70 + 34 * max(len(known), 2), x=title, legend=False)
    figure.update_xaxes(range=[0, 1.12])
    figure.update_yaxes(showgrid=False)
    figure.add_vline(x=chance, line={"color": MARK, "width": 1.5, "dash": "dash"})
    return figure


def planted_dots(measures: Mapping[str, Mapping[str, Any]], styles: Sequence[str]) -> go.Figure:
    """A row per measure: AUROC of relevant content, overall and within each style; of style (x)."""
    names = list(measures)[::-1]
    figure = go.Figure()
    series = [("all samples", [measures[n]["auroc"] for n in names], "circle", SELECTED)]
    for place, style in enumerate(styles):
        color = SOURCE_CYCLE[place % len(SOURCE_CYCLE)]
        within = [measures[n]["within"][style]["auroc"] for n in names]
        series.append((f"{style} only", within, "circle-open", color))
    if all(measures[n].get("auroc_style") is not None for n in names):
        series.append(("style itself", [measures[n]["auroc_style"] for n in names], "x", MARK))
    for name, values, symbol, color in series:
        figure.add_trace(
            go.Scatter(
                x=values,
                y=names,
                name=name,
                mode="markers",
                marker={"size": 11, "symbol": symbol, "color": color, "line": {"width": 2}},
                hovertemplate="%{y}: %{x:.3f}<extra>" + name + "</extra>",
            )
        )
    plain(figure, height=90 + 30 * max(len(names), 2), x="AUROC")
    figure.update_xaxes(range=[0, 1.03])
    figure.add_vline(x=0.5, line={"color": LEFT_OUT, "width": 1, "dash": "dot"})
    return figure


def planted_rows(measures: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table next to `planted_dots`: a row per measure and set of samples."""
    rows = []
    for name, facts in measures.items():
        groups = {f"{style} only": values for style, values in facts["within"].items()}
        for among, values in {"all samples": facts, **groups}.items():
            rows.append(
                {
                    "measure": name,
                    "among": among,
                    "AUROC": values["auroc"],
                    "precision": values["precision"],
                    "share in the pool": values["base_rate"],
                    "samples": values["rows"],
                }
            )
    return rows
