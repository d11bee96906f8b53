"""Browse: samples, filtered, searched, sorted and flagged; each has a permanent link."""

from __future__ import annotations

import numpy as np
import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore import numbers
from pages.parts import flagging, glossary
from pages.parts.browse.filters import Found, controls, matching, region_in_link
from pages.parts.browse.sample_detail import detail
from pages.parts.cards import gallery
from pages.parts.empty import needs
from pages.parts.plain import escape, show_problem
from pages.parts.router import link_to
from pages.parts.runs import page_header
from pages.parts.text_search import search_on
from pages.parts.view import View, current
from pages.parts.widgets import action, choice, side_by_side

PAGE_SIZES = (24, 48, 96)


def main() -> None:
    view = current()
    if st.query_params.get("sample") and view.chain.has("sources"):
        _one(view)
        return
    page_header(
        view,
        "Browse",
        "Look at the samples. Every sample has a permanent link.",
        ("select", "sources"),
    )
    needs(view, "sources", shows="Samples appear here once the sources are read.")
    _many(view)


@st.fragment
def _many(view: View) -> None:
    """Controls and gallery. A filter, a page or a flag redraws this fragment alone."""
    try:
        found = matching(view, controls(view))
    except EmtError as error:
        show_problem(error)
        action("Show all samples", _unlike, icon="close")
        return
    _context(view)
    _gallery(view, found)


def _context(view: View) -> None:
    """What the link filters or sorts by besides the controls, each with a button to drop it."""
    like = st.query_params.get("like", "")
    if like:
        with side_by_side(gap="small"):
            words = ":material/near_me: Sorted by distance to"
            st.caption(words, width="content", help=glossary.LIKE)
            st.text(like, width="content")
            action("Sort by score", _unlike, icon="close", key="unlike", type="tertiary")
    if region_in_link(view) is not None:
        with side_by_side(gap="small"):
            st.caption(":material/select: Inside the region drawn on the map", width="content")
            action("Clear region", _everywhere, icon="close", key="unregion", type="tertiary")


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
                "**No samples match.** Widen the score range, clear the search or show another set."
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
                "Flag on cards", key="marking", help="Show the flag buttons on every card."
            )
            what = f"page {number} of a gallery"
            flagging.bulk(view, shown, what=what, title="Flag page", key="page")
        choice("Cards", PAGE_SIZES, key="cards", in_url=False, label_visibility="collapsed")
    with place:
        flagging.last_change(view, "browse")
        names = [name for name in st.query_params if name != "sample"]
        query = {name: st.query_params.get_all(name) for name in names}
        gallery(
            view,
            shown,
            notes=found.notes(shown),
            query=query,
            flags="browse" if marking else "",
            width=230 if marking else 168,
        )


def _page(pages: int) -> int:
    """Page numbers, and buttons with keys for the previous and the next page."""
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
    """One sample, with buttons to its neighbors in the result list that the link describes."""
    sample = st.query_params["sample"]
    # A link inside a page reaches the server, but not the browser's address bar.
    st.query_params["sample"] = sample
    row = view.index.row_of(sample)
    left, right = st.columns([3, 7], vertical_alignment="bottom")
    left.title("Sample", anchor=False)
    left.text(sample)
    with right:
        steps = side_by_side(horizontal_alignment="right")
    with st.expander("Current result list", icon=":material/filter_list:"):
        asked = controls(view)
    rows = matching(view, asked).rows
    places = np.flatnonzero(rows == row)
    place = int(places[0]) if len(places) else None
    where = f"of {glossary.SETS[asked['show']].lower()}"
    if place is None:
        # The sample was opened from another page, or a filter no longer lets it pass: then the
        # buttons step through the data.
        rows = np.arange(view.index.rows)
        place = row
        where = "in the data"
    with steps:
        at = f"{numbers.whole(place + 1)} of {numbers.whole(len(rows))}"
        st.caption(f"{at} {where}", width="content")
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
