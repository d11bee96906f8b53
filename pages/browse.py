"""Browse: the samples themselves. Selected, left out or near the cut; filtered, searched, sorted; each with a link."""

from __future__ import annotations

import numpy as np
import streamlit as st

from emt_core.explore.search import Matches, find_text
from emt_core.figures import numbers
from pages.parts import glossary
from pages.parts import view as reading
from pages.parts.cards import detail, gallery
from pages.parts.empty import needs
from pages.parts.plain import escape
from pages.parts.runs import page_header
from pages.parts.view import View, current

SHOW = {
    "selected": "Selected",
    "left": "Left out",
    "near": "Near the cut",
    "pool": "Whole pool",
    "robot": "Robot data",
}
SORTS = {"near": "nearest first", "far": "farthest first", "index": "as in the data", "random": "shuffled"}
PAGE_SIZES = (24, 48, 96)
NEAR_ROWS = 480


def main() -> None:
    view = current()
    sample = st.query_params.get("sample")
    if sample and view.chain.has("sources"):
        _one(view, sample)
        return
    page_header(
        view, "Browse", "Look at the samples themselves; every card opens with a permanent link.", ("select", "sources")
    )
    needs(view, "sources", shows="Samples appear here as soon as the sources are read.")
    show, filters = _filters(view)
    rows, note = _rows(view, show, filters)
    _gallery(view, rows, note, show)


def _one(view: View, sample: str) -> None:
    st.query_params["sample"] = sample  # a link inside a page reaches the server but not the address bar
    left, right = st.columns([7, 3], vertical_alignment="bottom")
    left.title("Sample", anchor=False)
    left.text(sample)
    with right, st.container(horizontal=True, horizontal_alignment="right"):
        st.button("Back to the gallery", icon=":material/arrow_back:", on_click=_leave, shortcut="Escape")
    detail(view, sample)
    if view.chain.has("gap"):
        query = {"mark": sample} | ({"recipe": view.recipe} if view.recipe else {})
        st.page_link("pages/map.py", label="Show on the map", icon=":material/scatter_plot:", query_params=query)


def _leave() -> None:
    st.query_params.pop("sample", None)


def _filters(view: View) -> tuple[str, dict]:
    """What is shown and which filters hold; everything is in the link."""
    chain = view.chain
    usable = [
        name
        for name in SHOW
        if (name in ("pool", "robot"))
        or (name == "near" and chain.has("select", "score"))
        or (name in ("selected", "left") and chain.has("select"))
    ]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        show = st.segmented_control(
            "Show", usable, default=usable[0], required=True, format_func=SHOW.get, key="set", bind="query-params"
        )
        sorts = list(SORTS) if chain.has("score") else ["index", "random"]
        sort = st.selectbox("Sort", sorts, format_func=SORTS.get, key="sort", bind="query-params", width=150)
        text = st.text_input(
            "Conversation contains", key="text", bind="query-params", width=200, icon=":material/search:"
        )
    found: dict = {"sort": sort, "text": text}
    with st.expander("Filters", icon=":material/filter_list:"):
        columns = st.columns(4, gap="medium")
        found["source"] = columns[0].multiselect("Source", view.source_names, key="source", bind="query-params")
        if chain.has("category"):
            found["category"] = columns[1].multiselect(
                "Category", view.categories.names, key="category", bind="query-params", help=glossary.CATEGORY
            )
        if chain.has("select"):
            reasons = [name for name in view.reasons.names if name]
            found["reason"] = columns[2].multiselect(
                "Left out because", reasons, key="reason", bind="query-params", format_func=glossary.reason
            )
        if chain.has("score"):
            finite = view.logits[view.order]
            if len(finite):
                low = float(np.floor(finite[-1] * 10) / 10)
                high = float(np.ceil(finite[0] * 10) / 10)
                if low < high:
                    found["range"] = columns[3].slider(
                        "Score",
                        low,
                        high,
                        (low, high),
                        step=0.05,
                        key="range",
                        bind="query-params",
                        help=glossary.SCORE,
                    )
    return show or usable[0], found


def _rows(view: View, show: str, filters: dict) -> tuple[np.ndarray, str]:
    """Index rows that pass, in order, and a note where the answer is not complete."""
    keep = ~view.is_pool if show == "robot" else view.is_pool.copy()
    note = ""
    if show in ("selected", "left"):
        keep &= (view.reasons.codes == 0) == (show == "selected")
    elif show == "near":
        keep &= _near(view)
    if filters["source"]:
        keep &= np.isin(view.codes, reading.places(view.source_names, tuple(filters["source"])))
    if filters.get("category"):
        wanted = reading.places(view.categories.names, tuple(filters["category"]))
        keep &= np.isin(view.categories.codes, wanted)
    if filters.get("reason"):
        keep &= np.isin(view.reasons.codes, reading.places(view.reasons.names, tuple(filters["reason"])))
    if filters.get("range"):
        low, high = filters["range"]
        extent = view.logits[view.order]
        if len(extent) and (low > extent[-1] or high < extent[0]):
            with np.errstate(invalid="ignore"):
                keep &= (view.logits >= low) & (view.logits <= high)
    if filters["text"].strip():
        matches = _search(str(view.chain.sources.path), filters["text"].strip())
        hit = np.zeros(len(keep), bool)
        hit[matches.rows] = True
        keep &= hit
        if not matches.complete:
            seen, total = numbers.whole(matches.scanned), numbers.whole(matches.total)
            note = f"The search looked at the first {seen} of {total} samples."
    return _sorted(view, keep, filters["sort"]), note


def _near(view: View) -> np.ndarray:
    """The rows next to the selection's lowest score, on both sides."""
    selected = view.reasons.codes == 0
    near = np.zeros(len(selected), bool)
    scored = view.order[view.is_pool[view.order]]
    if selected.any():
        cut = float(np.nanmin(view.logits[selected]))
        at = int(np.searchsorted(-view.logits[scored], -cut, side="right"))
        near[scored[max(at - NEAR_ROWS // 2, 0) : at + NEAR_ROWS // 2]] = True
    return near


def _sorted(view: View, keep: np.ndarray, sort: str | None) -> np.ndarray:
    if sort in ("near", "far") and view.chain.has("score"):
        ranked = view.order[keep[view.order]]
        unscored = np.flatnonzero(keep & ~np.isfinite(view.logits))
        return np.concatenate([ranked if sort == "near" else ranked[::-1], unscored])
    rows = np.flatnonzero(keep)
    return np.random.default_rng(0).permutation(rows) if sort == "random" else rows


@st.cache_data(max_entries=32, show_spinner="Searching conversations")
def _search(sources: str, text: str) -> Matches:
    return find_text(reading.index(sources), text)


def _gallery(view: View, rows: np.ndarray, note: str, show: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{numbers.counted(len(rows), 'sample')}**")
        size = st.segmented_control(
            "Cards", PAGE_SIZES, default=PAGE_SIZES[0], required=True, key="cards", label_visibility="collapsed"
        )
    if note:
        st.caption(f":material/info: {escape(note)}")
    if not len(rows):
        with st.container(border=True):
            st.markdown(
                "**Nothing passes these filters.** Widen the score range, clear the search, or show another set."
            )
        return
    size = size or PAGE_SIZES[0]
    pages = -(-len(rows) // size)
    place = st.container()
    number = st.pagination(pages, key=f"page-{show}-{size}") if pages > 1 else 1
    number = min(number, pages)
    with place:
        gallery(view, rows[(number - 1) * size : number * size])


main()
