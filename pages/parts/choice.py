"""One of a few, as a row of buttons: the first unless the link says otherwise, and the choice stands in the link."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st


def choice(
    label: str,
    options: Sequence[str],
    *,
    key: str,
    help_text: str | None = None,
    format_func: Callable[[str], str] = str,
) -> str:
    """key: of the widget and of the query parameter."""
    chosen = st.segmented_control(
        label,
        options,
        default=options[0],
        required=True,
        key=key,
        bind="query-params",
        help=help_text,
        format_func=format_func,
    )
    return chosen or options[0]
