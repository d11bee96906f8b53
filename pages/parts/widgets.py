"""Widgets that many pages draw the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import plotly.graph_objects as go
import streamlit as st

Item = TypeVar("Item")

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
    options: Iterable[Item],
    *,
    key: str,
    default: Item | None = None,
    in_url: bool = True,
    **more: Any,
) -> Item:
    """One of a few, as a row of buttons; by default the first.

    key: of the widget and, where `in_url`, of the address's parameter. more: further arguments of
    st.segmented_control.
    """
    names = list(options)
    first = names[0] if default is None else default
    bind = "query-params" if in_url else None
    return (
        st.segmented_control(label, names, default=first, required=True, key=key, bind=bind, **more)
        or first
    )


def metrics(*values: tuple[Any, ...], width: int = 118) -> None:
    """Headline numbers side by side: (label, value[, help text[, change[, color of a change]]]).

    width: at least this many pixels each. color: `normal` (up is green) or `inverse`.
    """
    with st.grid(len(values), min_column_width=width, gap="small"):
        for label, value, *more in values:
            help_text, change, color = (*more, *(None, None, "normal")[len(more) :])
            st.metric(
                label,
                value,
                change,
                color,
                help=help_text,
                border=True,
                height="stretch",
            )


def one_page(items: Sequence[Item], size: int, key: str, **options: Any) -> Sequence[Item]:
    """The page of `items` that the reader turned to; draws page numbers where there are several.

    options: further arguments of st.pagination.
    """
    pages = -(-len(items) // size)
    page = min(st.pagination(pages, key=key, **options), pages) if pages > 1 else 1
    return items[(page - 1) * size : page * size]
