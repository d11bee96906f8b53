"""Choices that stand in the address: a link says what it shows also where that is the default of today.

Streamlit's own binding leaves a default out of the address, so that a link would show something else as soon as a newer
selection is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st


def put(name: str, value: str | None) -> None:
    """Set or clear one parameter; says nothing to the browser where nothing changes."""
    if value is None:
        if name in st.query_params:
            del st.query_params[name]
    elif st.query_params.get(name) != value:
        st.query_params[name] = value


def followed(name: str, options: Sequence[str], short: Callable[[str], str] = str) -> None:
    """Before a widget of key `name` is drawn: an address that changed since the last run goes before its state."""
    asked = st.query_params.get(name)
    if asked is not None and asked != st.session_state.get(f"_link-{name}"):
        match = next((option for option in options if asked in (option, short(option))), None)
        if match is not None:
            st.session_state[name] = match
    if st.session_state.get(name) not in options:
        st.session_state[name] = options[0]


def kept(name: str, choice: str | None, short: Callable[[str], str] = str) -> None:
    """After it was drawn: write the choice into the address."""
    text = None if choice is None else short(choice)
    put(name, text)
    st.session_state[f"_link-{name}"] = text
