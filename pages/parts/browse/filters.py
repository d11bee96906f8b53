"""The controls of Browse: set, filters and order, all kept in the address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore import numbers
from emt_core.explore.curation.flags import FLAGS
from emt_core.explore.curation.views import SavedView
from emt_core.explore.tables.browse import NOTED, Columns, Wanted, arranged, passing
from emt_core.explore.tables.map import Region, rows_in
from emt_core.explore.tables.nearness import clip_features
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.table import Coded
from pages.parts import cached, flagging, glossary
from pages.parts.score_slider import score_slider
from pages.parts.text_search import search
from pages.parts.view import View
from pages.parts.widgets import choice

SORTS = {
    "near": "nearest first",
    "far": "farthest first",
    "index": "as in the data",
    "random": "shuffled",
}


@dataclass(frozen=True)
class Found:
    """The rows that match, in order."""

    rows: np.ndarray
    note: str = ""
    """What makes the list incomplete."""
    measure: str = ""
    """`distance` or `match`, where they are not sorted by score."""
    values: np.ndarray | None = None
    """float32 [index rows]: that measure."""
    unsearched: int = 0
    """Rows that the text search has not reached."""

    def notes(self, rows: np.ndarray) -> list[str]:
        """A line per card."""
        if self.values is None:
            return []
        return [
            f":gray[{self.measure}] **{numbers.decimal(float(self.values[row]), 3)}**"
            for row in rows
        ]


def controls(view: View) -> dict:
    """Draw the controls; returns their values by name."""
    chain = view.chain
    needs = {"selected": ("select",), "left": ("select",), "near": ("select", "score")}
    usable = [name for name in glossary.SETS if chain.has(*needs.get(name, ()))]
    found: dict = {}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        found["show"] = choice("Show", usable, format_func=glossary.SETS.get, key="set")
        found["text"] = st.text_input(
            "Conversation contains",
            key="text",
            bind="query-params",
            width=180,
            icon=":material/search:",
        ).strip()
        found["words"] = _words(view)
    with st.expander("Filters and order", icon=":material/filter_list:"):
        _narrow(view, found)
    return found


def _words(view: View) -> str:
    """A field to search by meaning, or how to get one."""
    if clip_features(view.done, view.chain.sources) is not None:
        return st.text_input(
            "Image looks like",
            key="words",
            bind="query-params",
            width=180,
            icon=":material/image_search:",
            help=glossary.WORDS,
            placeholder="a robot arm over a table",
        ).strip()
    with st.popover("By meaning", icon=":material/image_search:", width=180):
        st.markdown(
            "Searching by meaning needs **CLIP features** of this pool. Add an instance to the "
            "recipe and run it. Scores keep using their own features (give their stages `parents` "
            "if the recipe has several embeds):"
        )
        st.code("embed.clip: {encoder: clip, model: ViT-B-32/laion2b_s34b_b79k}", language="yaml")
    return ""


def _narrow(view: View, found: dict) -> None:
    chain = view.chain
    columns = st.columns(4, gap="medium")
    found["source"] = columns[0].multiselect(
        "Source", view.source_names, key="source", bind="query-params"
    )
    if chain.has("category"):
        found["category"] = columns[1].multiselect(
            "Category",
            view.categories.names,
            key="category",
            bind="query-params",
            help=glossary.CATEGORY,
        )
    if chain.has("select"):
        reasons = [name for name in view.reasons.names if name]
        found["reason"] = columns[2].multiselect(
            "Rejected because",
            reasons,
            key="reason",
            bind="query-params",
            format_func=glossary.reason,
        )
    found["flag"] = columns[3].multiselect(
        "Flag", [*FLAGS[1:], NOTED], key="flag", bind="query-params", format_func=flagging.label
    )
    sorts = list(SORTS) if chain.has("score") else ["index", "random"]
    found["sort"] = columns[0].selectbox(
        "Sort", sorts, format_func=SORTS.get, key="sort", bind="query-params"
    )
    if chain.has("score"):
        found["range"] = _score_range(view, columns[1])
    regions = {saved.name: saved for saved in _saved(view) if saved.region is not None}
    if regions:
        found["region"] = columns[2].selectbox(
            "Region of the map",
            list(regions),
            index=None,
            key="view",
            bind="query-params",
            help="Regions saved as views on the Map page.",
        )
        found["saved"] = regions.get(found["region"] or "")


def _score_range(view: View, column) -> tuple[float, float] | None:
    """(lowest, highest) score; at an end of the slider the range is open.

    None with both ends open: then rows without a score pass too.
    """
    logits, order = view.logits, view.order
    if not len(order):
        return None
    ends = score_slider(len(order), lambda ranks: logits[order[ranks]])
    chosen = column.slider(
        f"Score ({view.score_scale.name})",
        ends.low,
        ends.high,
        (ends.low, ends.high),
        step=ends.step,
        format=ends.format,
        key="range",
        bind="query-params",
        help=view.score_scale.help,
    )
    low = chosen[0] if chosen[0] > ends.low else -np.inf
    high = chosen[1] if chosen[1] < ends.high else np.inf
    return None if np.isinf(low) and np.isinf(high) else (low, high)


def _saved(view: View) -> list[SavedView]:
    try:
        return view.view_book.read()
    except EmtError:
        return []


def matching(view: View, asked: dict) -> Found:
    """The rows that match the controls.

    `like` in the address sorts by distance to that sample, "Image looks like" by meaning.
    """
    wanted = Wanted(
        show=asked["show"],
        sources=tuple(asked["source"]),
        categories=tuple(asked.get("category", ())),
        reasons=tuple(asked.get("reason", ())),
        flags=tuple(asked["flag"]),
        scores=asked.get("range"),
    )
    notes = []
    unsearched = 0
    said = None
    if asked["text"]:
        said = search(view.chain.sources, asked["text"], _searched(view, wanted))
        unsearched = said.total - said.scanned
        if unsearched:
            seen, total = numbers.whole(said.scanned), numbers.whole(said.total)
            notes.append(f"Searched the first {seen} of {total} samples so far.")
    regions = []
    saved: SavedView | None = asked.get("saved")
    if saved is not None and saved.region is not None:
        drawn_on = view.workspace.find("gap", saved.gap)
        if drawn_on is None:
            notes.append("The region is not applied: its map was deleted.")
        else:
            regions.append((saved.region, drawn_on))
    drawn = region_in_link(view)
    if drawn is not None:
        regions.append(drawn)
    sort = asked["sort"]
    by = ""
    measure = ""
    values = None
    order = view.order if view.chain.has("score") else None
    clip = clip_features(view.done, view.chain.sources)
    like = st.query_params.get("like", "")
    if asked["words"] and clip is not None:
        sort = "near"
        by = f"{clip.path} {asked['words']}"
        measure = "match"
        values, order = cached.alike(clip, asked["words"])
    elif like and view.chain.has("embed"):
        sort = "near"
        by = f"{view.chain.embed.path} {like}"
        measure = "distance"
        values, order = cached.nearest_to(view.chain.embed, view.index.row_of(like))
    chain = view.chain
    artifacts = (chain.sources, chain.category, chain.score, chain.select)
    question = (
        *(str(artifact.path) for artifact in artifacts if artifact is not None),
        (wanted, view.flag_book.version if wanted.flags else None),
        (asked["text"], said.scanned if said else 0),
        [(region, str(gap.path)) for region, gap in regions],
        (sort, by),
    )

    def rows() -> np.ndarray:
        only = [rows_in(region, *cached.map_points(gap)) for region, gap in regions]
        only += [said.rows] if said else []
        return arranged(passing(_columns(view), replace(wanted, only=only)), sort, order)

    return Found(_answer(repr(question), _rows=rows), " ".join(notes), measure, values, unsearched)


@st.cache_resource(max_entries=4, show_spinner=False)
def _answer(question: str, *, _rows: Callable[[], np.ndarray]) -> np.ndarray:
    """int64 rows, in order. Cached, because turning a page asks the same question."""
    return _rows()


def _searched(view: View, wanted: Wanted) -> list[str]:
    """Names of the sources that can match, so that the search reads no others."""
    role = "robot" if wanted.show == "robot" else "pool"
    return [
        s.name for s in view.index.of_role(role) if not wanted.sources or s.name in wanted.sources
    ]


def region_in_link(view: View) -> tuple[Region, Artifact] | None:
    """The region that the Map page put into the address, and the map it was drawn on."""
    region, on = Region.parse(st.query_params.get("region", "")), st.query_params.get("on", "")
    gap = view.workspace.find("gap", on) if on.isalnum() else None  # a key, never a path
    same = gap is not None and gap.manifest["parents"].get("sources") == view.chain.sources.key
    return (region, gap) if region is not None and gap is not None and same else None


def _columns(view: View) -> Columns:
    chain = view.chain
    return Columns(
        pool=view.is_pool,
        source=Coded(view.codes, view.source_names),
        category=view.categories if chain.has("category") else None,
        reason=view.reasons if chain.has("select") else None,
        flag=view.flag_codes,
        noted=tuple(view.flags.notes),
        logit=view.logits if chain.has("score") else None,
        order=view.order if chain.has("score") else None,
    )
