"""Widgets that many pages draw the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import plotly.graph_objects as go
import streamlit as st

side_by_side = partial(st.container, horizontal=True, vertical_alignment="center")
"""Elements side by side, their middles at one height."""


def action(label: str, act: Callable[..., Any], *args: Any, icon: str = "", **options: Any) -> bool:
    """A button that calls `act(*args)` when it is pressed.

    icon: name of a Material icon. options: further arguments of st.button.
    """
    sign = f":material/{icon}:" if icon else None
    return st.button(label, icon=sign, on_click=act, args=args, **options)


def chart(figure: go.Figure, key: str | None = None, **options: Any) -> Any:
    """A figure without Plotly's tool bar. options: further arguments of st.plotly_chart."""
    return st.plotly_chart(figure, config={"displayModeBar": False}, key=key, **options)


def choice(
    label: str,
    options: Sequence[str],
    *,
    key: str,
    help_text: str | None = None,
    format_func: Callable[[str], str] = str,
) -> str:
    """One of a few, as a row of buttons: the first unless the address says otherwise.

    key: of the widget and of the address's parameter.
    """
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
