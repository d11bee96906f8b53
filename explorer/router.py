"""The pages and their groups, in the order of the sidebar."""

from __future__ import annotations

import streamlit as st


def navigation() -> st.Page:
    """Register the files of pages/ and return the one that the address names."""
    return st.navigation(
        {
            "Explore": [
                st.Page("pages/map.py", title="Map", icon=":material/scatter_plot:", default=True, url_path="map"),
                st.Page("pages/scores.py", title="Scores", icon=":material/bar_chart:", url_path="scores"),
            ],
            "Decide": [
                st.Page("pages/select.py", title="Select", icon=":material/tune:", url_path="select"),
                st.Page("pages/browse.py", title="Browse", icon=":material/photo_library:", url_path="browse"),
            ],
        }
    )
