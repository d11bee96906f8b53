"""Scores: how the pool and the robot data score, by source and by category, and how the estimator learned."""

from __future__ import annotations

import numpy as np
import streamlit as st

from emt_core.artifact import read_json
from emt_core.explore.distribution import Distribution, bin_edges, bins_for, distribution, superiority, to_scale
from emt_core.figures import distributions, estimator, numbers
from emt_core.figures.palette import CATEGORY, ROLE
from pages.parts import glossary
from pages.parts import view as reading
from pages.parts.empty import needs
from pages.parts.runs import page_header
from pages.parts.view import SPATIAL, TEXT_HEAVY, View, current

SIDE_BY_SIDE = ("spatial and grounding", "text-heavy")
SIDE_COLOURS = {SIDE_BY_SIDE[0]: CATEGORY["spatial"], SIDE_BY_SIDE[1]: CATEGORY["text"]}
BARE = {"displayModeBar": False}


def main() -> None:
    view = current()
    page_header(
        view,
        "Scores",
        "How near each part of the pool is to the robot data, as the estimator sees it.",
        ("score", "estimator", "category"),
    )
    needs(view, "sources", "embed", "score", shows="This page shows how scores spread over sources and categories.")
    _summary(view)
    scale, log = _controls()
    cut = _cut(view, scale)
    st.subheader("Pool against robot data", anchor=False, help=glossary.SCORE)
    by_role = _binned(str(view.chain.score.path), "role", scale, _view=view)
    st.plotly_chart(
        distributions.histogram(
            by_role, ROLE, scale=scale, log=log, cut=cut, labels={"robot": "robot data", "pool": "pool"}
        ),
        config=BARE,
    )
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader(
            "By source", anchor=False, help="Highest median first. The dot is the median, the bar the middle half."
        )
        data = _binned(str(view.chain.score.path), "source", scale, _view=view).by_median()
        st.plotly_chart(distributions.violins(data, view.source_colours, scale=scale, log=log, cut=cut), config=BARE)
    with right:
        if view.chain.has("category"):
            st.subheader("By category", anchor=False, help=glossary.CATEGORY)
            data = _binned(_both(view), "category", scale, _view=view).by_median()
            st.plotly_chart(
                distributions.violins(data, view.category_colours, scale=scale, log=log, cut=cut), config=BARE
            )
        else:
            st.caption("Categories appear here once the category stage has run.")
    if view.chain.has("category"):
        _sides(view, scale, log, cut)
    _estimator(view)


def _summary(view: View) -> None:
    metrics = view.chain.estimator.metrics if view.chain.has("estimator") else {}
    finite = np.isfinite(view.logits)
    pool = view.is_pool
    with st.grid(6, min_column_width=118, gap="small"):
        st.metric("Pool scored", numbers.short(int((finite & pool).sum())), help=glossary.POOL, border=True)
        st.metric("Robot frames", numbers.short(int((finite & ~pool).sum())), help=glossary.ROBOT, border=True)
        st.metric("AUROC", numbers.decimal(metrics.get("auroc")), help=glossary.AUROC, border=True)
        st.metric("Avg. precision", numbers.decimal(metrics.get("average_precision")), help=glossary.AP, border=True)
        st.metric("Calibration", numbers.decimal(metrics.get("calibration_error")), help=glossary.ECE, border=True)
        if "steps" in metrics:
            st.metric("Steps", numbers.whole(metrics["steps"]), help=glossary.STOP, border=True)


def _controls() -> tuple[str, bool]:
    with st.container(horizontal=True):
        scale = st.segmented_control(
            "Score as",
            ["logit", "probability"],
            default="logit",
            required=True,
            key="scale",
            bind="query-params",
            help=glossary.SCALE,
        )
        axis = st.segmented_control(
            "Heights", ["linear", "log"], default="linear", required=True, key="axis", bind="query-params"
        )
    return scale or "logit", axis == "log"


def _cut(view: View, scale: str) -> float | None:
    """The selection's lowest score, on the scale shown."""
    if not view.chain.has("select"):
        return None
    chosen = view.logits[view.reasons.codes == 0] if view.chain.select.config.get("strategy") == "top" else []
    if not len(chosen):
        return None
    cut = float(np.nanmin(chosen))
    return numbers.probability(cut) if scale == "probability" else cut


def _both(view: View) -> str:
    return f"{view.chain.score.path}|{view.chain.category.path}"


@st.cache_resource(max_entries=24, show_spinner="Binning scores")
def _binned(artifacts: str, by: str, scale: str, *, _view: View) -> Distribution:
    logit = _view.logits
    values = to_scale(logit, scale)
    edges = bin_edges(logit, scale, bins_for(int(_view.is_pool.sum())))
    if by == "role":
        return distribution(values, (~_view.is_pool).astype(np.int16), ("pool", "robot"), edges)
    if by == "source":
        return distribution(values, _view.codes, _view.source_names, edges)
    kinds = _view.categories
    if by == "category":
        return distribution(values, kinds.codes, kinds.names, edges, _view.is_pool)
    lookup = np.full(len(kinds.names) + 1, -1, np.int16)
    lookup[reading.places(kinds.names, SPATIAL)] = 0
    lookup[reading.places(kinds.names, TEXT_HEAVY)] = 1
    return distribution(values, lookup[kinds.codes], SIDE_BY_SIDE, edges, _view.is_pool)


def _sides(view: View, scale: str, log: bool, cut: float | None) -> None:
    st.subheader("Spatial against text-heavy", anchor=False, help=glossary.TEXT_HEAVY)
    data = _binned(_both(view), "sides", scale, _view=view)
    if not data.totals.all():
        st.caption("The pool lacks one of the two sides.")
        return
    figure_at, facts_at = st.columns([7, 3], gap="large", vertical_alignment="center")
    with figure_at:
        st.plotly_chart(distributions.histogram(data, SIDE_COLOURS, scale=scale, log=log, cut=cut), config=BARE)
    with facts_at:
        st.metric(
            "Spatial scores higher",
            numbers.share(superiority(data.counts[0], data.counts[1])),
            help=glossary.SUPERIORITY,
        )
        with st.grid(2, min_column_width=90, gap="small"):
            for side, mean in zip(("spatial", "text-heavy"), data.mean, strict=True):
                st.metric(f"Mean, {side}", numbers.decimal(float(mean), 2))
            if cut is not None:
                for side, counts in zip(("spatial", "text-heavy"), data.counts, strict=True):
                    above = float(counts[data.centres >= cut].sum() / counts.sum())
                    st.metric(f"Above cut, {side}", numbers.share(above))


def _estimator(view: View) -> None:
    if not view.chain.has("estimator"):
        return
    st.subheader("How the estimator learned", anchor=False, help=glossary.STOP)
    artifact = view.chain.estimator
    steps = reading.parquet(str(artifact.path), "steps.parquet").to_pandas()
    st.plotly_chart(
        estimator.training(
            steps, stopped_at=artifact.metrics.get("steps"), target=artifact.config.get("stop_accuracy")
        ),
        config=BARE,
    )
    curves = read_json(artifact.data / "curves.json")
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Calibration on held-out episodes**", help=glossary.ECE)
        st.plotly_chart(estimator.reliability(curves["calibration"]), config=BARE)
    with right:
        st.markdown("**ROC on held-out episodes**", help=glossary.AUROC)
        st.plotly_chart(
            estimator.roc(curves["roc"]["false_positive_rate"], curves["roc"]["true_positive_rate"]), config=BARE
        )


main()
