"""The pages and their groups, in the order of the sidebar."""

from __future__ import annotations

import streamlit as st

PAGES = {
    "Explore": [
        ("Map", "map", "scatter_plot"),
        ("Sources", "sources", "database"),
        ("Gap", "gap", "grid_on"),
        ("Estimator", "estimator", "show_chart"),
        ("Scores", "scores", "bar_chart"),
    ],
    "Decide": [("Select", "select", "tune"), ("Browse", "browse", "photo_library")],
}
"""Group -> (title, file of pages/ and address, icon). The first page is the one that opens."""


def navigation() -> st.Page:
    """Register the files of pages/, draw the links to them, and return the page that the address names.

    The links are our own: given an icon, st.Page makes it the browser tab's as well and has the browser fetch it from a
    server of Google's, and nothing here may leave the machine.
    """
    groups: dict[str, list[st.Page]] = {}
    icons = {}
    for group, entries in PAGES.items():
        for title, name, icon in entries:
            first = not icons
            page = st.Page(f"pages/{name}.py", title=title, url_path=None if first else name, default=first)
            groups.setdefault(group, []).append(page)
            icons[title] = icon
    page = st.navigation(groups, position="hidden")
    with st.sidebar:
        for group, pages in groups.items():
            with st.container(gap="xsmall"):
                st.caption(group)
                for place in pages:
                    st.page_link(place, icon=f":material/{icons[place.title]}:", width="stretch")
        st.divider()
    return page
