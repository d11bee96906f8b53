"""Search in conversations: a session keeps its latest answer, so that one that stopped early can go on."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from emt_core.explore.tables.search import Matches, find_text
from emt_core.workspace.artifact import Artifact
from pages.parts import cached
from pages.parts.widgets import action

KEPT, ASKED = "_text_search", "_text_search_on"


def search(sources: Artifact, text: str, names: Sequence[str]) -> Matches:
    """names: of the sources to look through.

    Nothing is shared between sessions: what a busy moment cut short would stay cut short for everybody.
    """
    question = (sources.path, text, tuple(names))
    kept = st.session_state.get(KEPT)
    answer: Matches | None = kept[1] if kept is not None and kept[0] == question else None
    further = st.session_state.pop(ASKED, False)
    if answer is None or (further and not answer.complete):
        with st.spinner("Searching conversations"):
            answer = find_text(cached.index(sources), text, sources=names, after=answer)
        st.session_state[KEPT] = (question, answer)
    return answer


def search_on() -> None:
    """Draw the button by which a search goes on where it stopped."""
    action("Search on", _ask, icon="search", key="search-on", type="tertiary")


def _ask() -> None:
    st.session_state[ASKED] = True
