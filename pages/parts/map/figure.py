"""The map's figure: its colors, the circled samples, and the region that was drawn on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore.curation.flags import FLAGS
from emt_core.explore.figures.map_layers import POINTS_AT_ONCE, Coloring, MapPoints, draw_map
from emt_core.explore.figures.palette import FLAG, LEFT_OUT, POOL, SELECTED
from emt_core.explore.tables.map import Bounds, Region, bounds_of
from emt_core.workspace.artifact import Artifact
from pages.parts import cached
from pages.parts.text_search import search
from pages.parts.view import View
from pages.parts.widgets import action

COLORS = {
    "role": "Role",
    "source": "Source",
    "category": "Category",
    "score": "Score",
    "selected": "Selected",
    "flag": "Flag",
}
NEEDS = {"category": "category", "score": "score", "selected": "select"}
MARKS = 400
"""At most this many samples are circled; of more hits, evenly spaced ones."""
FIGURE_KEY = "map-figure-"


def usable_colors(view: View) -> list[str]:
    return [name for name in COLORS if name not in NEEDS or view.chain.has(NEEDS[name])]


@cached.shared(max_entries=8)
def _extent(gap: Artifact) -> Bounds:
    return bounds_of(*cached.map_points(gap))


def _bounds(view: View) -> Bounds:
    return Bounds.parse(st.query_params.get("zoom", "")) or _extent(view.chain.gap)


FILTERS = ("source", "category")
"""Controls that narrow the map, and the address's parameters; Browse has them by the same names."""


def filters() -> dict[str, list[str]]:
    """The chosen names of each; those without a choice are left out."""
    return {name: chosen for name in FILTERS if (chosen := st.session_state.get(name))}


def _shown(view: View) -> np.ndarray:
    """bool [rows]: what the controls let through."""
    roles = st.session_state.get("show") or ()
    shown = np.where(view.is_pool, "pool" in roles, "robot" in roles)
    asked = filters()
    if "source" in asked:
        shown &= np.isin(np.asarray(view.source_names), asked["source"])[view.codes]
    if "category" in asked and view.chain.has("category"):
        kinds = view.categories
        shown &= ~view.is_pool | np.isin(np.asarray(kinds.names), asked["category"])[kinds.codes]
    return shown


def points_of(view: View) -> MapPoints:
    """All rows; those that the controls leave out are not drawn, and no region takes them."""
    x, y = view.map_points
    points = MapPoints(
        x=x,
        y=y,
        robot=~view.is_pool,
        source=view.codes,
        sources=view.source_names,
        logit=view.logits if view.chain.has("score") else None,
    )
    return points.only(_shown(view))


def found_rows(view: View, asked: str) -> tuple[np.ndarray, str, bool]:
    """(int64 rows, a line about them, whether all were searched) for a sample id or words."""
    if not asked:
        return np.empty(0, np.int64), "", True
    try:
        return np.array([view.index.row_of(asked)]), "found by its id", True
    except EmtError:
        matches = search(view.chain.sources, asked, view.source_names)
    rows = matches.rows
    scanned = "" if matches.complete else f" (in the first {matches.scanned:,})"
    if not len(rows):
        return rows, f"no sample has this id or contains this text{scanned}", matches.complete
    words = f"{len(rows):,} samples contain this text{scanned}"
    if len(rows) > MARKS:
        rows = rows[:: -(-len(rows) // MARKS)]
        words += f"; {MARKS} of them are circled"
    return rows, words, matches.complete


def _key(view: View, color: str) -> str:
    dense = "dense" if st.session_state.get("density") else ""
    parts = [view.chain.gap.key[:6], color, _bounds(view).text(), *_narrowing(), dense]
    return FIGURE_KEY + "-".join(parts)


def _narrowing() -> tuple[str, ...]:
    """What the controls let through, in words."""
    chosen = filters()
    return (*(st.session_state.get("show") or ()), *(f"{n}={v}" for n in chosen for v in chosen[n]))


def region_shown(view: View, color: str) -> Region | None:
    """The region drawn on the figure, else the one in the address."""
    return _region_of(st.session_state.get(_key(view, color))) or Region.parse(
        st.query_params.get("region", "")
    )


def figure(
    view: View, color: str, points: MapPoints, marked: np.ndarray, region: Region | None
) -> None:
    """Draw the map, and buttons for the region on it."""
    bounds = _bounds(view)
    shown = _narrowing()
    dense = bool(st.session_state.get("density"))
    chain = view.chain
    keys = [a.key for a in (chain.gap, chain.score, chain.select, chain.category) if a is not None]
    if color == "flag":
        keys.append(str(view.flag_book.version))
    from_link = Region.parse(st.query_params.get("region", ""))
    shows = (*keys, color, bounds, shown, dense, tuple(marked.tolist()))
    # The outline in the figure must not follow what is drawn by hand, or each drawing would redraw
    # the figure and reset itself. A new figure (another color, other circles) forgets what was
    # drawn, so it starts with the outline of the current region.
    if st.session_state.get("_shows") != shows or "_outline" not in st.session_state:
        st.session_state["_shows"] = shows
        st.session_state["_outline"] = from_link
    outline = st.session_state["_outline"]
    drawn = _drawn(
        tuple(keys), color, bounds, shown, outline, shows[-1], dense, _view=view, _points=points
    )
    st.container(border=True).plotly_chart(
        drawn,
        key=_key(view, color),
        on_select="rerun",
        selection_mode=("box", "lasso"),
        config={
            "displaylogo": False,
            "scrollZoom": True,
            "modeBarButtonsToRemove": ["autoScale2d", "resetScale2d"],
        },
    )
    with st.container(horizontal=True):
        if region is not None:
            st.query_params["region"] = region.text()
            action("Zoom to region", _zoom, region, icon="zoom_in")
            action("Clear region", clear, icon="close")
        if "zoom" in st.query_params:
            action("Whole map", _zoom, None, icon="zoom_out_map")
        if region is None:
            hint = "Drag to select a region (lasso in the toolbar, top right)."
            st.caption(f":material/select: {hint}")


@st.cache_resource(max_entries=24, show_spinner="Drawing the map")
def _drawn(
    keys: tuple[str, ...],
    color: str,
    bounds: Bounds,
    shown: tuple[str, ...],
    outline: Region | None,
    marked: tuple[int, ...],
    dense: bool,
    *,
    _view: View,
    _points: MapPoints,
) -> go.Figure:
    return draw_map(
        _points,
        _coloring(_view, color),
        bounds,
        outline=outline,
        marked=marked,
        points_at_once=0 if dense else POINTS_AT_ONCE,
    )


def _coloring(view: View, color: str) -> Coloring:
    pool = view.is_pool
    if color == "source":
        return Coloring(names=tuple(view.source_names), colors=view.source_colors, codes=view.codes)
    if color == "category":
        kinds = view.categories
        codes = np.where(pool, kinds.codes, -1)
        return Coloring(names=tuple(kinds.names), colors=view.category_colors, codes=codes)
    if color == "selected":
        codes = np.where(pool, (~view.selected).astype(np.int16), -1)
        return Coloring(
            names=("selected", "rejected"),
            colors={"selected": SELECTED, "rejected": LEFT_OUT},
            codes=codes,
        )
    if color == "flag":
        codes = np.where(pool, view.flags.codes.astype(np.int16), -1)
        return Coloring(
            names=("no flag", *FLAGS[1:]), colors={"no flag": LEFT_OUT, **FLAG}, codes=codes
        )
    codes = np.where(pool, 0, -1).astype(np.int16)
    base = Coloring(names=("pool",), colors={"pool": POOL}, codes=codes)
    if color == "score":
        finite = view.logits[np.isfinite(view.logits)]
        ends = np.quantile(finite, [0.02, 0.98]) if len(finite) else (0.0, 1.0)
        return replace(
            base,
            values=view.logits,
            value_range=(float(ends[0]), float(ends[1])),
            value_title=view.score_scale.title,
        )
    return base


def _region_of(event: Any) -> Region | None:
    selection = event["selection"] if event else {}
    for shape in (*selection.get("lasso", ()), *selection.get("box", ())):
        region = Region.drawn(shape["x"], shape["y"])
        if region is not None:
            return region
    return None


def _zoom(region: Region | None) -> None:
    if region is None:
        st.query_params.pop("zoom", None)
        return
    box = region.bounds
    edge_x = 0.04 * (box.x1 - box.x0)
    edge_y = 0.04 * (box.y1 - box.y0)
    wider = Bounds(box.x0 - edge_x, box.x1 + edge_x, box.y0 - edge_y, box.y1 + edge_y)
    st.query_params["zoom"] = wider.text()
    restore(None)


def clear() -> None:
    restore(None)


def restore(region: Region | None) -> None:
    """Show this region as drawn (None: none), whatever was drawn before."""
    for key in [key for key in st.session_state if str(key).startswith(FIGURE_KEY)]:
        del st.session_state[key]
    st.session_state["_outline"] = region
    if region is None:
        st.query_params.pop("region", None)
    else:
        st.query_params["region"] = region.text()
