"""Gap: the distance between pool and robot data, by source and by sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st

from emt_core.explore.figures import gap
from emt_core.explore.tables.gap import (
    ALL_ROBOTS,
    PAPER_DIVERSITY,
    cluster_order,
    diversities,
    group_figures,
    how_measured,
    matrix_table,
    nearest_sources,
    reading,
)
from emt_core.explore.tables.measured import of_selection
from pages.parts import cached, glossary
from pages.parts.empty import needs
from pages.parts.gap.neighbor_pairs import pairs
from pages.parts.links import read_from_url, write_to_url
from pages.parts.plain import escape
from pages.parts.runs import page_header
from pages.parts.sidebar import short_label
from pages.parts.view import View, current
from pages.parts.widgets import chart, choice, metrics

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
        "Distance between pool and robot data in the encoder's feature space.",
        ("gap",),
    )
    needs(
        view, "sources", "embed", "gap", shows="This page compares every source with every other."
    )
    view = _chosen(view)
    facts = cached.json_file(view.chain.gap, "gap.json")
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
    """The view with the gap that the reader chose, where several use the same features."""
    labels = view.labels_over("gap", "embed")
    if len(labels) < 2:
        return view
    read_from_url("gap", labels, short_label)
    label = st.selectbox("Gap", labels, key="gap", format_func=short_label, width=220)
    write_to_url("gap", label, short_label)
    return replace(view, chain=replace(view.chain, gap=view.done[label]))


def _summary(facts: dict[str, Any]) -> None:
    groups = group_figures(facts)
    names = {
        "MMD² within pool": ("within_pool", glossary.GAP_GROUPS),
        "MMD² within robot data": ("within_robot", glossary.GAP_GROUPS),
        "MMD² between sources (mean)": ("across", glossary.GAP_GROUPS),
        "MMD² pool vs robot data": ("pool_to_robot", glossary.GAP),
    }
    shown = ((name, groups[key].text, why) for name, (key, why) in names.items())
    metrics(*shown, width=190)


def _matrix(facts: dict[str, Any]) -> None:
    st.subheader("MMD² between all sources", anchor=False, help=glossary.GAP)
    with st.container(horizontal=True):
        scale = choice("Values", ["normalized", "raw"], key="values", help=glossary.GAP_NORMALIZED)
        order_by = choice("Order", ["clustered", "recipe"], key="order", help=glossary.GAP_ORDER)
    distances = np.asarray(facts["mmd2"], float)
    order = cluster_order(distances) if order_by == "clustered" else list(range(len(distances)))
    normalized = scale != "raw"
    table = matrix_table(facts, order, normalized=normalized)
    roles = [facts["roles"][place] for place in order]
    chart(
        gap.mmd_matrix(table.to_numpy(), list(table.columns), roles, normalized=normalized),
        alt="Squared MMD between all sources, as in the table below.",
    )
    st.caption(how_measured(facts))
    if facts["left_out"]:
        st.text(f"Not compared (fewer than two vectors): {', '.join(facts['left_out'])}")
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(table.round(3), alt="Squared MMD between all sources")


def _ranking(view: View, facts: dict[str, Any]) -> None:
    st.subheader("Nearest pool sources", anchor=False, help=glossary.GAP)
    found = nearest_sources(facts)
    if not found:
        st.caption("Needs a pool source and a robot source with vectors.")
        return
    if st.session_state.get("robots") not in found:
        st.session_state.pop("robots", None)
    target = ALL_ROBOTS
    if len(found) > 2:
        target = st.selectbox("To", list(found), key="robots", bind="query-params") or ALL_ROBOTS
    chart(gap.ranked(found[target], view.source_colors))


def _diversity(view: View, facts: dict[str, Any]) -> None:
    st.subheader("Diversity", anchor=False, help=glossary.DIVERSITY_SOURCES)
    groups = diversities(facts, "diversity_groups")
    if view.chain.has("select"):
        selected = of_selection(view.chain.select.metrics, "after")["diversity"]
        groups |= {"selected": selected} if selected.value is not None else {}
    sources = diversities(facts, "diversity")
    chart(
        gap.diversity_bars(sources, groups, view.source_colors, PAPER_GROUPS),
        key="diversity",
    )
    with st.expander("The paper's figures", icon=":material/menu_book:"):
        st.caption(
            "arXiv 2604.20012: its own pool and robot data, InternVL3.5-1B features. "
            "Not measured here."
        )
        st.dataframe(
            [{"set": name, "S(D) in the paper": value} for name, value in PAPER_DIVERSITY.items()],
            hide_index=True,
        )


main()
