"""The pages and their groups, in the order of the sidebar."""

from __future__ import annotations

import streamlit as st

ICON = {"Map": "scatter_plot", "Scores": "bar_chart", "Select": "tune", "Browse": "photo_library"}


def navigation() -> st.Page:
    """Register the files of pages/, draw the links to them, and return the page that the address names.

    The links are our own: given an icon, st.Page makes it the browser tab's as well and has the browser fetch it from a
    server of Google's, and nothing here may leave the machine.
    """
    groups = {
        "Explore": [
            st.Page("pages/map.py", title="Map", default=True),
            st.Page("pages/scores.py", title="Scores", url_path="scores"),
        ],
        "Decide": [
            st.Page("pages/select.py", title="Select", url_path="select"),
            st.Page("pages/browse.py", title="Browse", url_path="browse"),
        ],
    }
    page = st.navigation(groups, position="hidden")
    with st.sidebar:
        for group, pages in groups.items():
            with st.container(gap="xsmall"):
                st.caption(group)
                for place in pages:
                    st.page_link(place, icon=f":material/{ICON[place.title]}:", width="stretch")
        st.divider()
    return page
