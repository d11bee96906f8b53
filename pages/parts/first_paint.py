"""What stands at the top of a page comes on screen before the figures below it."""

from __future__ import annotations

import time

import streamlit as st

PAUSE_S = 0.5


def top_first() -> None:
    """Wait a moment, once a session, so that the browser shows what was drawn so far; figures come after this call.

    A session's first figure has the browser load and run plotly, 4.7 MB of script and the most of a page's work, and
    until that is done nothing else that came with it appears. From then on the browser has it.
    """
    if not st.session_state.get("_painted"):
        st.session_state["_painted"] = True
        time.sleep(PAUSE_S)
