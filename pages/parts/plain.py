"""Data text shown literally (never as Markdown, HTML or LaTeX), and errors as sentences."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import streamlit as st

from emt_core.errors import EmtError

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&^=@])")


def escape(text: str) -> str:
    """Text to stand literally inside a label that Streamlit reads as Markdown."""
    return SPECIAL.sub(r"\\\1", text.replace("\n", " "))


def shorten(text: str, length: int) -> str:
    """One line of at most `length` characters, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    return line[: length - 1].rsplit(" ", 1)[0].rstrip(",;:") + "…"


def show_problem(error: EmtError) -> None:
    """What went wrong, where, and what to do."""
    with st.container(border=True):
        what = error.what[:1].upper() + error.what[1:]
        with st.container(horizontal=True, gap="small"):
            st.markdown(":red[:material/error:]", width="content")
            st.text(f"{what}.")
        if error.where:
            st.text(f"Where: {error.where}")
        if error.remedy:
            st.text(f"What to do: {error.remedy}")


def attempt(place: str, act: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Call `act` from a button; whether it succeeded. An EmtError is kept for this place.

    place: what `show_kept_problem` is called with, beside the button.
    """
    st.session_state.pop(f"_problem-{place}", None)
    try:
        act(*args, **kwargs)
    except EmtError as error:
        st.session_state[f"_problem-{place}"] = error
        return False
    return True


def show_kept_problem(place: str, *, once: bool = True) -> bool:
    """Show the error that the last `attempt` of this place ended in. Whether there was one.

    once: the next run of the page drops it. False where the page runs by itself, every second:
    then it stays until the next attempt.
    """
    key = f"_problem-{place}"
    problem = st.session_state.pop(key, None) if once else st.session_state.get(key)
    if problem is not None:
        show_problem(problem)
    return problem is not None
