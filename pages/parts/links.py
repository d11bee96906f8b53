"""Choices kept in the page's address, defaults included.

Streamlit's own binding leaves defaults out of the address, so a shared link would show something
else as soon as there is a newer selection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st
from streamlit.errors import StreamlitAPIException

OLD_NAMES = {"colour": "color"}
"""A parameter's name in links and saved views of older versions -> its name now."""

OLD_LABELS = {
    "set": {"Left out": "Rejected"},
    "reason": {
        "robot data, not a candidate": "robot data",
        "the measure gives it no score": "no score",
    },
}
"""Parameter -> an option's label in links of older versions -> its label now."""


def renewed(query: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """A link's parameters, each with its values, in the words of this version."""
    found = {}
    for name, values in query.items():
        now = OLD_NAMES.get(name, name)
        if now == name or now not in query:
            labels = OLD_LABELS.get(now, {})
            found[now] = [labels.get(value, value) for value in values]
    return found


def renew_address() -> None:
    """Before any widget is drawn: rewrite an address of an older version, and run anew."""
    before = {name: st.query_params.get_all(name) for name in st.query_params}
    after = renewed(before)
    if after == before:
        return
    try:
        for name in before.keys() - after.keys():
            del st.query_params[name]
        for name, values in after.items():
            if values != before.get(name):
                st.query_params[name] = values
    except StreamlitAPIException:
        return  # the browser went back to it: a drawn widget holds the parameter and ignores it
    st.rerun()  # widgets read the address that the run began with


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
