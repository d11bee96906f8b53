"""Scores: distributions by source and by category, before and after selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.figures import scores
from emt_core.explore.figures.palette import ROLE, SELECTED
from emt_core.explore.reading import SIDE_COLORS, SIDES
from emt_core.explore.tables.score_scale import PROBABILITY
from emt_core.explore.tables.scores import (
    Distribution,
    Scale,
    beyond,
    bin_edges,
    bins_for,
    distribution,
    joined,
    superiority,
    to_scale,
)
from pages.parts import glossary
from pages.parts.empty import needs
from pages.parts.router import link_to
from pages.parts.runs import page_header
from pages.parts.view import View, current
from pages.parts.widgets import chart, choice, metrics


def main() -> None:
    view = current()
    page_header(
        view,
        "Scores",
        "How near each part of the pool is to the robot data, by the chosen score.",
        ("score", "estimator", "measure", "category"),
    )
    needs(
        view,
        "sources",
        "embed",
        "score",
        shows="This page shows the scores of every source and category.",
    )
    _summary(view)
    look = _controls(view)
    cut = _cut(view, look)
    _roles(view, look, cut)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("By source", anchor=False, help=glossary.GROUP_ORDER)
        _groups(view, "source", look, cut, view.source_colors)
    with right:
        st.subheader("By category", anchor=False, help=glossary.CATEGORY)
        if view.chain.has("category"):
            _groups(view, "category", look, cut, view.category_colors)
        else:
            st.caption("Categories appear here once the category stage has run.")
    if view.chain.has("category"):
        _sides(view, look, cut)
    if view.chain.has("estimator"):
        query = {"recipe": view.recipe}
        link_to("estimator", "How the estimator was trained", query=query)


@dataclass(frozen=True)
class Look:
    """How the figures are drawn."""

    scale: Scale
    axis: str
    """Title of the scores' axis."""
    log: bool
    shape: str
    after: bool
    """Draw the selection next to the whole pool."""


def _roles(view: View, look: Look, cut: float | None) -> None:
    st.subheader("Pool against robot data", anchor=False, help=view.score_scale.help)
    data = _binned(str(view.chain.score.path), "role", look.scale, _view=view)
    labels = {"robot": "robot data", "pool": "pool", "selected": "selected"}
    colors = {**ROLE, "selected": SELECTED}
    if look.after:
        data = joined(data, _binned(_with(view, "select"), "selected", look.scale, _view=view))
    chart(scores.histogram(data, colors, axis=look.axis, log=look.log, cut=cut, labels=labels))
    _, outside = _edges(str(view.chain.score.path), look.scale, _view=view)
    if outside:
        counted = numbers.counted(outside, "score")
        st.caption(f"{counted} far beyond the others: counted at the ends of the axis.")


def _groups(view: View, by: str, look: Look, cut: float | None, colors: dict[str, str]) -> None:
    artifacts = str(view.chain.score.path) if by == "source" else _with(view, "category")
    data = _binned(artifacts, by, look.scale, _view=view).by_median()
    chosen = None
    if look.after:
        chosen = _binned(
            f"{artifacts}|{view.chain.select.path}", f"{by} selected", look.scale, _view=view
        )
        if by == "source":
            data = data.pick([name for name in data.names if name in _pool_sources(view)])
    draw = scores.violins if look.shape == "violins" else scores.histograms
    chart(
        draw(data, colors, axis=look.axis, log=look.log, cut=cut, chosen=chosen), key=f"groups-{by}"
    )


def _pool_sources(view: View) -> set[str]:
    return {source.name for source in view.index.of_role("pool")}


def _summary(view: View) -> None:
    held_out = _held_out(view)
    finite = np.isfinite(view.logits)
    shown = [
        ("Pool scored", numbers.short(int((finite & view.is_pool).sum())), glossary.POOL),
        ("Robot frames", numbers.short(int((finite & ~view.is_pool).sum())), glossary.ROBOT),
    ]
    if "auroc" in held_out:
        precision = numbers.decimal(held_out["average_precision"])
        shown.append(("AUROC", numbers.decimal(held_out["auroc"]), glossary.AUROC))
        shown.append(("Avg. precision", precision, glossary.AP))
    if view.score_scale.is_logit:
        error = numbers.decimal(held_out.get("calibration_error"))
        shown.append(("Calibration", error, glossary.ECE))
    if spread := view.need("score").metrics.get("spread"):
        median = numbers.decimal(spread["median"], 2)
        shown.append(("Seed spread", median, f"{glossary.SPREAD} The median of the pool."))
    metrics(*shown)


def _held_out(view: View) -> dict[str, Any]:
    """Held-out metrics of the classifier that made the score.

    Of another measure: AUROC and average precision of the score itself, where these say something.
    """
    made_by = view.chain.estimator or view.chain.measure
    own = made_by.metrics if made_by and view.score_scale.is_logit else {}
    return own | (
        view.chain.score.metrics.get("heldout") or {} if view.score_scale.compared else {}
    )


def _controls(view: View) -> Look:
    score = view.score_scale
    scale = "score"  # values as they are: only a classifier's are logits
    after = False
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if score.is_logit:
            scale = choice("Score as", ["logit", "probability"], key="scale", help=glossary.SCALE)
        heights = choice("Heights", ["linear", "log"], key="axis")
        shape = choice("Groups as", ["violins", "histograms"], key="shape")
        if view.chain.has("select"):
            shown = choice(
                "Selection",
                ["before", "before and after"],
                key="after",
                help=glossary.BEFORE_AFTER,
            )
            after = shown == "before and after"
    axis = PROBABILITY if scale == "probability" else score.title
    return Look(scale, axis, heights == "log", shape, after)  # type: ignore[arg-type]


def _cut(view: View, look: Look) -> float | None:
    """The selection's lowest score on the scale shown, clipped to the axis."""
    if not view.chain.has("select"):
        return None
    cut = view.chain.select.metrics.get("cut_logit")
    if cut is None:
        return None
    if look.scale == "probability":
        return numbers.probability(cut)
    edges, _ = _edges(str(view.chain.score.path), look.scale, _view=view)
    return float(np.clip(cut, edges[0], edges[-1]))


@st.cache_resource(max_entries=8, show_spinner=False)
def _edges(score: str, scale: Scale, *, _view: View) -> tuple[np.ndarray, int]:
    """(edges of the bins of every figure, how many scores lie beyond them)."""
    edges = bin_edges(_view.logits, scale, bins_for(int(_view.is_pool.sum())), apart=~_view.is_pool)
    return edges, beyond(to_scale(_view.logits, scale), edges)


def _with(view: View, stage: str) -> str:
    return f"{view.chain.score.path}|{getattr(view.chain, stage).path}"


@st.cache_resource(max_entries=32, show_spinner="Binning scores")
def _binned(artifacts: str, by: str, scale: Scale, *, _view: View) -> Distribution:
    """The scores' distribution by group.

    artifacts: the folders that it depends on. by: `role`, `selected`, `source`, `category` or
    `sides`; the last three with ` selected` appended for the selection alone.
    """
    values = to_scale(_view.logits, scale)
    edges, _ = _edges(str(_view.chain.score.path), scale, _view=_view)
    by, _, part = by.partition(" ")
    if by == "role":
        return distribution(values, (~_view.is_pool).astype(np.int16), ("pool", "robot"), edges)
    if by == "selected":
        return distribution(values, np.where(_view.selected, 0, -1), ("selected",), edges)
    mask = _view.selected if part else None
    if by == "source":
        return distribution(values, _view.codes, _view.source_names, edges, mask)
    mask = _view.is_pool if mask is None else mask
    kinds = _view.categories
    if by == "category":
        return distribution(values, kinds.codes, kinds.names, edges, mask)
    return distribution(values, _view.sides, SIDES, edges, mask)


def _sides(view: View, look: Look, cut: float | None) -> None:
    st.subheader("Spatial against text-heavy", anchor=False, help=glossary.TEXT_HEAVY)
    artifacts = _with(view, "category")
    data = _binned(artifacts, "sides", look.scale, _view=view)
    if not data.totals.all():
        st.caption("The pool has samples of one side only.")
        return
    figure_at, facts_at = st.columns([7, 3], gap="large", vertical_alignment="center")
    with figure_at:
        chart(scores.histogram(data, SIDE_COLORS, axis=look.axis, log=look.log, cut=cut))
    chosen = None
    if look.after:
        chosen = _binned(
            f"{artifacts}|{view.chain.select.path}", "sides selected", look.scale, _view=view
        )
    with facts_at:
        st.metric(
            "P(spatial > text-heavy)",
            numbers.share(superiority(data.counts[0], data.counts[1])),
            help=glossary.SUPERIORITY,
        )
        with st.grid(2, min_column_width=90, gap="small"):
            for side, median in zip(("spatial", "text"), data.quantiles[:, 2], strict=True):
                st.metric(f"Median, {side}", numbers.decimal(float(median), 2))
            if cut is not None:
                above = view.logits >= np.float32(view.chain.select.metrics["cut_logit"])
                _shares(view, "Above cut", above)
            if chosen is not None:
                _shares(view, "Selected", view.selected)
    if chosen is not None and chosen.totals.any():
        with figure_at:
            st.caption("After selection")
            chart(
                scores.histogram(
                    chosen, SIDE_COLORS, axis=look.axis, log=look.log, cut=cut, height=260
                ),
                key="sides-selected",
            )


def _shares(view: View, what: str, chosen: np.ndarray) -> None:
    """Of each side's samples that may be selected, the share that is `chosen` (bool [rows])."""
    for place, side in enumerate(("spatial", "text")):
        members = view.eligible & (view.sides == place)
        total = np.count_nonzero(members)
        share = np.count_nonzero(members & chosen) / total if total else None
        st.metric(f"{what}, {side}", numbers.share(share), help=glossary.SHARE_SELECTED)


main()
