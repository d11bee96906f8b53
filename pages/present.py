"""Present: a story of the results for collaborators; read, edited, saved as one HTML file."""

from __future__ import annotations

import streamlit as st

from emt_core.explore.report.report import first_story
from emt_core.explore.report.story import DEFAULT, Story, load_story, story_names
from pages.parts.empty import needs
from pages.parts.plain import escape
from pages.parts.present.story_editor import edit
from pages.parts.present.story_reading import read, reading_of
from pages.parts.runs import page_header
from pages.parts.view import View, current
from pages.parts.widgets import choice

MODES = {"read": "Read", "edit": "Edit"}


def main() -> None:
    view = current()
    page_header(
        view,
        "Present",
        "A story for collaborators, from the gap to the results.",
        ("gap", "score", "select"),
    )
    if not view.done:  # a story needs no particular stage
        needs(view, "sources", shows="A story shows the gap, the scores, a selection, the results.")
    name, story, mode = _choose(view)
    if mode == "edit":
        edit(view, name, story)
    else:
        read(view, name, story, reading_of(view, story))


def _choose(view: View) -> tuple[str, Story, str]:
    """(name, story, mode): the saved story that the address names, and `read` or `edit`."""
    recipe = view.recipe
    saved = story_names(view.workspace, recipe)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        mode = "read"
        if not view.workspace.read_only:
            mode = choice("Mode", MODES, format_func=MODES.get, key="mode", in_url=False)
        name = saved[0] if saved else DEFAULT
        if saved:
            if st.session_state.get("story") not in saved:
                st.session_state.pop("story", None)
            name = st.selectbox(
                "Story", saved, key="story", bind="query-params", format_func=escape, width=260
            )
    story = load_story(view.workspace, recipe, name) if saved else first_story()
    return name, story, mode


main()
