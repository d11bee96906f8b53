"""The explorer, started by `emt app --workspace W`: draws the sidebar, runs a page."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from emt_core.errors import EmtError  # noqa: E402
from pages.parts.links import renew_address  # noqa: E402
from pages.parts.plain import show_problem  # noqa: E402
from pages.parts.router import navigation  # noqa: E402
from pages.parts.sidebar import choose_view  # noqa: E402
from pages.parts.view import asked_workspace  # noqa: E402

st.set_page_config(
    page_title="EmbodiedMidtrain", page_icon=str(HERE / "assets" / "icon.svg"), layout="wide"
)
st.logo(
    str(HERE / "assets" / "logo.svg"), icon_image=str(HERE / "assets" / "icon.svg"), size="large"
)

with st.sidebar:
    top = st.container(gap="small")
page = navigation()
renew_address()
try:
    choose_view(asked_workspace(), top)
    page.run()
except EmtError as error:
    show_problem(error)
