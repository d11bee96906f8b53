"""The pages and their groups, in the order of the sidebar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import streamlit as st

PAGES = {
    "Start": [("Overview", "overview", "account_tree"), ("Sources", "sources", "database")],
    "Explore": [
        ("Map", "map", "scatter_plot"),
        ("Gap", "gap", "grid_on"),
        ("Estimator", "estimator", "show_chart"),
        ("Scores", "scores", "bar_chart"),
    ],
    "Decide": [
        ("Trust", "trust", "verified"),
        ("Select", "select", "tune"),
        ("Browse", "browse", "photo_library"),
        ("Ablation", "ablation", "table_chart"),
    ],
    "Train": [
        ("Train", "train", "model_training"),
        ("Probe", "probe", "stethoscope"),
        ("Results", "results", "monitoring"),
    ],
    "Share": [("Present", "present", "slideshow")],
    "Work": [("Jobs", "jobs", "work_history")],
}
"""Group -> (title, file of pages/ and address, icon). The first page is the one that opens."""


def page_of(name: str) -> tuple[str, str]:
    """Title and icon of a page by its file's name."""
    return next(
        (title, icon) for group in PAGES.values() for title, file, icon in group if file == name
    )


def link_to(
    name: str,
    label: str | None = None,
    *,
    icon: str | None = None,
    query: Mapping[str, str | list[str]] | None = None,
    width: Literal["content", "stretch"] = "content",
) -> None:
    """Draw a link to a page, by default with the page's title and icon.

    icon: name of a Material icon. query: parameters of the address.
    """
    title, own_icon = page_of(name)
    st.page_link(
        f"pages/{name}.py",
        label=label or title,
        icon=f":material/{icon or own_icon}:",
        query_params=query,
        width=width,
    )


def go_to(name: str) -> None:
    """Open another page, in place of this one."""
    st.switch_page(f"pages/{name}.py")


def navigation() -> st.Page:
    """Register the pages, draw links to them in the sidebar, and return the one to run.

    The links are drawn here because st.Page, given an icon, makes it the browser tab's too, which
    the browser fetches from a Google server; nothing here may leave the machine.
    """
    groups: dict[str, list[st.Page]] = {}
    icons = {}
    for group, entries in PAGES.items():
        for title, name, icon in entries:
            first = not icons
            page = st.Page(
                f"pages/{name}.py", title=title, url_path="start" if first else name, default=first
            )
            groups.setdefault(group, []).append(page)
            icons[title] = icon
    page = st.navigation(
        [*(page for group in groups.values() for page in group), _by_name(groups)],
        position="hidden",
    )
    with st.sidebar:
        with st.container(gap="small"):
            for group, pages in groups.items():
                with st.container(gap="xsmall"):
                    st.caption(group)
                    for place in pages:
                        st.page_link(
                            place, icon=f":material/{icons[place.title]}:", width="stretch"
                        )
        st.divider()
    return page


def _by_name(groups: dict[str, list[st.Page]]) -> st.Page:
    """A page at `/overview`: the first page has the address `/` and would not be found by name."""
    first = next(iter(groups.values()))[0]
    _, name, _ = next(iter(PAGES.values()))[0]
    query = st.query_params.to_dict()
    return st.Page(
        lambda: st.switch_page(first, query_params=query), title=first.title, url_path=name
    )
