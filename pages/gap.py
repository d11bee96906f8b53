"""Gap: how far pool and robot data lie apart, source by source and sample by sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.figures import gap
from emt_core.explore.tables.gap import (
    ALL_ROBOTS,
    PAPER_DIVERSITY,
    cluster_order,
    matrix_table,
    nearest_sources,
    reading,
)
from emt_core.explore.tables.select import at_threshold
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.files import read_json
from emt_core.workspace.lineage import labels_of
from pages.parts import glossary
from pages.parts import view as cached
from pages.parts.choice import choice
from pages.parts.empty import needs
from pages.parts.gap.neighbor_pairs import pairs
from pages.parts.links import followed, kept
from pages.parts.plain import escape
from pages.parts.runs import page_header
from pages.parts.sidebar import short_label
from pages.parts.view import View, current

BARE = {"displayModeBar": False}
PAPER_GROUPS = {
    "pool": PAPER_DIVERSITY["VLM pool"],
    "robot": PAPER_DIVERSITY["VLA data"],
    "selected": PAPER_DIVERSITY["selected"],
}


def main() -> None:
    view = current()
    page_header(
        view,
        "Gap",
        "How far the pool lies from the robot data in the encoder's feature space.",
        ("gap",),
    )
    needs(
        view, "sources", "embed", "gap", shows="This page compares every source with every other."
    )
    view = _chosen(view)
    facts = _facts(str(view.chain.gap.path))
    _summary(facts)
    st.caption(escape(reading(facts)))
    left, right = st.columns([6, 4], gap="large")
    with left:
        _matrix(facts)
    with right:
        _ranking(view, facts)
        _diversity(view, facts)
    pairs(view)


def _chosen(view: View) -> View:
    """A recipe may measure several gaps over the same features."""
    labels = [
        label
        for label in labels_of(view.done, "gap")
        if view.done[label].manifest["parents"].get("embed") == view.chain.embed.key
    ]
    if len(labels) < 2:
        return view
    followed("gap", labels[::-1], short_label)
    label = st.selectbox("Gap", labels[::-1], key="gap", format_func=short_label, width=220)
    kept("gap", label, short_label)
    return replace(view, chain=replace(view.chain, gap=view.done[label]))


@st.cache_resource(max_entries=8, show_spinner=False)
def _facts(path: str) -> dict[str, Any]:
    return read_json(Path(path) / "data" / "gap.json")


def _summary(facts: dict[str, Any]) -> None:
    groups = facts["groups"]
    with st.grid(4, min_column_width=150, gap="small"):
        for words, name in (
            ("Inside the pool", "within_pool"),
            ("Inside robot data", "within_robot"),
            ("Across", "across"),
        ):
            st.metric(
                words, numbers.decimal(groups.get(name)), help=glossary.GAP_GROUPS, border=True
            )
        st.metric(
            "Pool to robot data",
            numbers.decimal(groups.get("pool_to_robot")),
            help=glossary.GAP,
            border=True,
        )


def _matrix(facts: dict[str, Any]) -> None:
    st.subheader("Every source against every other", anchor=False, help=glossary.GAP)
    with st.container(horizontal=True):
        scale = choice(
            "Values", ["normalized", "raw"], key="values", help_text=glossary.GAP_NORMALIZED
        )
        order_by = choice(
            "Order", ["clustered", "recipe"], key="order", help_text=glossary.GAP_ORDER
        )
    distances = np.asarray(facts["mmd2"], float)
    order = cluster_order(distances) if order_by == "clustered" else list(range(len(distances)))
    normalized = scale != "raw"
    table = matrix_table(facts, order, normalized=normalized)
    roles = [facts["roles"][place] for place in order]
    st.plotly_chart(
        gap.mmd_matrix(table.to_numpy(), list(table.columns), roles, normalized=normalized),
        config=BARE,
        alt="Squared MMD between every two sources; the same numbers stand in the table below.",
    )
    sampled = facts["sampled"].values()
    said = f"{facts['estimator']} estimate from up to {numbers.whole(max(sampled, default=0))} samples a source"
    st.caption(f"{said.capitalize()}; kernel width σ = {numbers.decimal(facts['sigma'], 2)}.")
    if facts["left_out"]:
        st.text(f"Left out for want of two vectors: {', '.join(facts['left_out'])}")
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(table.round(4), alt="Squared MMD between every two sources")


def _ranking(view: View, facts: dict[str, Any]) -> None:
    st.subheader("Nearest pool sources", anchor=False, help=glossary.GAP)
    found = nearest_sources(facts)
    if not found:
        st.caption("This needs a pool source and a robot source with vectors.")
        return
    if st.session_state.get("robots") not in found:
        st.session_state.pop("robots", None)
    target = ALL_ROBOTS
    if len(found) > 2:
        target = st.selectbox("To", list(found), key="robots", bind="query-params") or ALL_ROBOTS
    st.plotly_chart(gap.ranked(found[target], view.source_colors), config=BARE)


def _diversity(view: View, facts: dict[str, Any]) -> None:
    st.subheader("Diversity", anchor=False, help=glossary.DIVERSITY_SOURCES)
    groups = {name: value for name, value in facts["diversity_groups"].items() if value is not None}
    selected = _selected_diversity(view)
    if selected is not None:
        groups["selected"] = selected
    st.plotly_chart(
        gap.diversity_bars(facts["diversity"], groups, view.source_colors, PAPER_GROUPS),
        config=BARE,
        key="diversity",
    )
    with st.expander("The paper's figures", icon=":material/menu_book:"):
        st.caption(
            "arXiv 2604.20012, for its own pool and robot data with InternVL3.5-1B features. Not measured here."
        )
        st.dataframe(
            [{"set": name, "S(D) in the paper": value} for name, value in PAPER_DIVERSITY.items()],
            hide_index=True,
        )


def _selected_diversity(view: View) -> float | None:
    """S(D) of the selection, as the score's subsample knows it; None where it was not cut by score."""
    score, select = view.chain.score, view.chain.select
    if score is None or select is None or not _cut_by_score(select):
        return None
    cut = select.metrics.get("cut_logit")
    return (
        None
        if cut is None
        else at_threshold(cached.parquet(str(score.path), "sweep.parquet"), cut)["diversity"]
    )


def _cut_by_score(select: Artifact) -> bool:
    """Caps and quotas leave out rows above the cut: then the subsample above it is not the selection."""
    config = select.config
    limits = [limit for name in ("caps", "quotas") for limit in (config.get(name) or {}).values()]
    return config.get("strategy") == "top" and not any(limits)


main()
