"""Choices kept in the page's address, defaults included.

Streamlit's own binding leaves defaults out of the address, so a shared link would show something
else as soon as there is a newer selection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st


def set_parameter(name: str, value: str | None) -> None:
    """Set one parameter of the address or clear it (None); an equal value is not sent."""
    if value is None:
        if name in st.query_params:
            del st.query_params[name]
    elif st.query_params.get(name) != value:
        st.query_params[name] = value


def read_from_url(name: str, options: Sequence[str], short: Callable[[str], str] = str) -> None:
    """Before the widget of key `name` is drawn: set its state from an address that changed.

    short: an option as the address has it.
    """
    asked = st.query_params.get(name)
    if asked is not None and asked != st.session_state.get(f"_link-{name}"):
        match = next((option for option in options if asked in (option, short(option))), None)
        if match is not None:
            st.session_state[name] = match
    if st.session_state.get(name) not in options:
        st.session_state[name] = options[0]


def write_to_url(name: str, choice: str | None, short: Callable[[str], str] = str) -> None:
    """After the widget was drawn: write its value into the address."""
    text = None if choice is None else short(choice)
    set_parameter(name, text)
    st.session_state[f"_link-{name}"] = text
