"""Search in conversations; an answer that stopped early can be continued."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from emt_core.explore.tables.search import Matches, find_text
from emt_core.workspace.artifact import Artifact
from pages.parts import cached
from pages.parts.widgets import action

KEPT = "_text_search"
ASKED = "_text_search_on"


def search(sources: Artifact, text: str, names: Sequence[str]) -> Matches:
    """Samples whose conversation contains the text. names: sources to search.

    The latest answer is kept in the session. It is not shared between sessions, or an answer that
    was cut short would stay so for everybody.
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
    """A button that continues a search where it stopped."""
    action("Continue search", _ask, icon="search", key="search-on", type="tertiary")


def _ask() -> None:
    st.session_state[ASKED] = True
