"""Map: pool and robot data in two dimensions; regions can be inspected, flagged and exported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import streamlit as st

from emt_core.explore.tables.map import rows_in
from pages.parts import flagging
from pages.parts.empty import needs
from pages.parts.map.figure import (
    COLORS,
    figure,
    filters,
    found_rows,
    points_of,
    region_shown,
    usable_colors,
)
from pages.parts.map.region import composition, counts, region_gallery
from pages.parts.map.views import another_map, encoder_name, map_name, saved_views
from pages.parts.plain import escape
from pages.parts.runs import page_header
from pages.parts.text_search import search_on
from pages.parts.view import View, current
from pages.parts.widgets import choice

ONLY = "Only these are drawn, counted and taken by a region. Browse has the same filter."


def main() -> None:
    view = current()
    page_header(
        view,
        "Map",
        "Pool and robot data in two dimensions, sample by sample.",
        ("gap", "embed", "sources"),
    )
    needs(
        view,
        "sources",
        "embed",
        "gap",
        shows="The map shows pool and robot data in the encoder's feature space.",
    )
    _explore(view)


@st.fragment
def _explore(view: View) -> None:
    """Controls, map and region. A lasso redraws this fragment alone; the region comes first."""
    color, view, marked = _controls(view)
    points = points_of(view)
    region = region_shown(view, color)
    rows = np.flatnonzero(np.isfinite(points.x))
    if region is not None:
        rows = rows_in(region, points.x, points.y)
    figure_at, side_at = st.columns([7, 3], gap="medium")
    below = st.container()
    with side_at:
        in_pool = counts(view, rows, "Region" if region else "Shown" if filters() else "Whole map")
    with below:
        if region is not None and len(rows):
            region_gallery(view, rows, region)
        else:
            flagging.last_change(view, "map")
    with figure_at:
        figure(view, color, points, marked, region)
    with side_at:
        composition(view, in_pool)


def _controls(view: View) -> tuple[str, View, np.ndarray]:
    """(what to color by, the view with the chosen map, rows to circle)."""
    usable = usable_colors(view)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        color = choice(
            "Color by",
            usable,
            default="category" if "category" in usable else "role",
            format_func=COLORS.get,
            key="color",
            help="Grey: no value. Robot data are always orange diamonds.",
        )
        st.segmented_control(
            "Show",
            ["pool", "robot"],
            selection_mode="multi",
            default=["pool", "robot"],
            key="show",
            bind="query-params",
        )
        asked = st.text_input(
            "Find",
            key="find",
            bind="query-params",
            width=200,
            icon=":material/search:",
            placeholder="sample id or words",
            help="Circles the sample with this id, or samples that contain these words.",
        ).strip()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.multiselect(
            "Source",
            view.source_names,
            key="source",
            bind="query-params",
            width=180,
            placeholder="all",
            help=ONLY,
        )
        if view.chain.has("category"):
            st.multiselect(
                "Category",
                view.categories.names,
                key="category",
                bind="query-params",
                width=180,
                placeholder="all",
                help=ONLY,
            )
        view = _chosen_map(view)
        another_map(view)
        saved_views(view)
        st.toggle(
            "Density",
            key="density",
            bind="query-params",
            help="Draw cells instead of points; always on where there are too many points.",
        )
    marked, words, whole = found_rows(view, asked or st.query_params.get("mark", ""))
    if asked:
        st.caption(f":material/adjust: {escape(words)}")
    if not whole:
        search_on()
    return color, view, marked


def _chosen_map(view: View) -> View:
    """The view with the map that the reader chose, where there are several of these samples."""
    maps = view.labels_over("gap")
    if len(maps) < 2:
        return view
    names = {
        label: map_name(view.done[label], label, encoder_name(view, view.done[label]))
        for label in maps
    }
    label = st.selectbox(
        "Map",
        maps,
        format_func=names.get,
        key="map",
        bind="query-params",
        width=220,
        label_visibility="collapsed",
    )
    return replace(view, chain=replace(view.chain, gap=view.done[label]))


main()
