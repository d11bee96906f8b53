"""Browse: the samples themselves. Filtered, searched, sorted, flagged; each opens with a permanent link."""

from __future__ import annotations

import numpy as np
import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore import numbers
from pages.parts import flagging, glossary
from pages.parts.browse.filters import SHOW, Found, controls, matching, region_in_link
from pages.parts.browse.sample_detail import detail
from pages.parts.cards import gallery
from pages.parts.empty import needs
from pages.parts.plain import escape, show_problem
from pages.parts.router import link_to
from pages.parts.runs import page_header
from pages.parts.text_search import search_on
from pages.parts.view import View, current
from pages.parts.widgets import action, side_by_side

PAGE_SIZES = (24, 48, 96)


def main() -> None:
    view = current()
    if st.query_params.get("sample") and view.chain.has("sources"):
        _one(view)
        return
    page_header(
        view,
        "Browse",
        "Look at the samples themselves; every card opens with a permanent link.",
        ("select", "sources"),
    )
    needs(view, "sources", shows="Samples appear here as soon as the sources are read.")
    _many(view)


@st.fragment
def _many(view: View) -> None:
    """Controls and gallery: a filter, a page or a flag redraws this and nothing else."""
    try:
        found = matching(view, controls(view))
    except EmtError as error:
        show_problem(error)
        action("Remove it", _unlike, icon="close")
        return
    _context(view)
    _gallery(view, found)


def _context(view: View) -> None:
    """What the link adds to the controls, each with the way out of it."""
    like = st.query_params.get("like", "")
    if like:
        with side_by_side(gap="small"):
            st.caption(
                ":material/near_me: In order of distance to", width="content", help=glossary.LIKE
            )
            st.text(like, width="content")
            action("By score again", _unlike, icon="close", key="unlike", type="tertiary")
    if region_in_link(view) is not None:
        with side_by_side(gap="small"):
            st.caption(":material/select: Inside the region drawn on the map", width="content")
            action("Everywhere", _everywhere, icon="close", key="unregion", type="tertiary")


def _everywhere() -> None:
    for name in ("region", "on"):
        st.query_params.pop(name, None)


def _unlike() -> None:
    st.query_params.pop("like", None)


def _gallery(view: View, found: Found) -> None:
    rows, total = found.rows, len(found.rows)
    bar = side_by_side(horizontal_alignment="distribute")
    with bar:
        st.markdown(f"**{numbers.counted(total, 'sample')}**")
        tools = side_by_side(horizontal_alignment="right", gap="small")
    if found.note:
        with side_by_side(gap="small"):
            st.caption(f":material/info: {escape(found.note)}", width="content")
            if found.unsearched:
                search_on()
    if not total:
        with st.container(border=True):
            st.markdown(
                "**Nothing passes these filters.** Widen the score range, clear the search, or show another set."
            )
        flagging.last_change(view, "browse")
        return
    size = st.session_state.get("cards") or PAGE_SIZES[0]
    pages = -(-total // size)
    place = st.container()
    number = _page(pages)
    shown = rows[(number - 1) * size : number * size]
    with tools:
        marking = False
        if not view.workspace.read_only:
            marking = st.toggle(
                "Flag on cards", key="marking", help="Shows the four flags below every card."
            )
            flagging.bulk(
                view, shown, what=f"page {number} of a gallery", title="Flag page", key="page"
            )
        st.segmented_control(
            "Cards",
            PAGE_SIZES,
            default=PAGE_SIZES[0],
            required=True,
            key="cards",
            label_visibility="collapsed",
        )
    with place:
        flagging.last_change(view, "browse")
        query = {
            name: st.query_params.get_all(name) for name in st.query_params if name != "sample"
        }
        gallery(
            view,
            shown,
            notes=found.notes(shown),
            query=query,
            flags="browse" if marking else "",
            width=230 if marking else 168,
        )


def _page(pages: int) -> int:
    """Page buttons, and the keys for the next and the previous page."""
    if pages == 1:
        return 1
    asked = st.session_state.get("page")
    if asked is not None and asked > pages:  # filters left fewer pages
        st.session_state["page"] = pages
    with side_by_side():
        number = st.pagination(pages, key="page", bind="query-params", persist_state="page")
        for label, step, shortcut in (("Previous", -1, "PageUp"), ("Next", 1, "PageDown")):
            action(
                label,
                _turn,
                number + step,
                key=f"turn-{label}",
                type="tertiary",
                shortcut=shortcut,
                disabled=not 1 <= number + step <= pages,
            )
    return number


def _turn(number: int) -> None:
    st.session_state["page"] = number


def _one(view: View) -> None:
    """One sample, with the way to its neighbours in the result that the link describes."""
    sample = st.query_params["sample"]
    st.query_params["sample"] = (
        sample  # a link inside a page reaches the server but not the address bar
    )
    row = view.index.row_of(sample)
    left, right = st.columns([3, 7], vertical_alignment="bottom")
    left.title("Sample", anchor=False)
    left.text(sample)
    steps = right.container(
        horizontal=True, horizontal_alignment="right", vertical_alignment="center"
    )
    with st.expander("The result it stands in", icon=":material/filter_list:"):
        asked = controls(view)
    rows = matching(view, asked).rows
    at = np.flatnonzero(rows == row)
    place = int(at[0]) if len(at) else None
    if (
        place is None
    ):  # from another page, or a filter that it no longer passes: its neighbours in the data
        rows, place, where = np.arange(view.index.rows), row, "in the data"
    else:
        where = f"of {SHOW[asked['show']].lower()}"
    with steps:
        st.caption(
            f"{numbers.whole(place + 1)} of {numbers.whole(len(rows))} {where}", width="content"
        )
        for label, step, key in (("Previous", -1, "Left"), ("Next", 1, "Right")):
            there = 0 <= place + step < len(rows)
            action(
                label,
                _go,
                view,
                int(rows[place + step]) if there else row,
                key=f"step-{label}",
                shortcut=key,
                disabled=not there,
            )
        action("Back to the gallery", _leave, icon="arrow_back", shortcut="Escape")
    detail(view, row, below=lambda: _further(view, sample))


def _further(view: View, sample: str) -> None:
    with st.container(horizontal=True):
        if view.chain.has("embed"):
            action("More like this", _like, sample, icon="near_me", help=glossary.LIKE)
        if view.chain.has("gap"):
            link_to("map", "Show on the map", query={"mark": sample, "recipe": view.recipe})


def _go(view: View, row: int) -> None:
    st.query_params["sample"] = view.index.samples([row])[0].id


def _like(sample: str) -> None:
    st.query_params["like"] = sample
    _leave()


def _leave() -> None:
    st.query_params.pop("sample", None)


main()
