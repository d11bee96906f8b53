"""Text that is not ours, shown as it is: HTML, Markdown and LaTeX in a caption stay harmless and literal."""

from __future__ import annotations

import re

import streamlit as st

from emt_core.errors import EmtError

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&^=@])")


def escape(text: str) -> str:
    """Names of files, sources and the like inside labels that Streamlit reads as Markdown."""
    return SPECIAL.sub(r"\\\1", text.replace("\n", " "))


def shorten(text: str, length: int) -> str:
    """At most so many characters, one line, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    return line[: length - 1].rsplit(" ", 1)[0].rstrip(",;:") + "…"


def show_problem(error: EmtError) -> None:
    """What went wrong, where, and what to do: never a traceback."""
    with st.container(border=True):
        st.markdown(":red[:material/error:] **This did not work**")
        st.text(error.what + ".")
        if error.where:
            st.text(f"Where: {error.where}")
        if error.remedy:
            st.text(f"What to do: {error.remedy}")
