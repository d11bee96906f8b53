"""Map: pool against robot data in two dimensions; drag a box or a lasso to see what lies there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from emt_core.explore.density import Bounds, Region, bounds_of, rows_in, spread_sample
from emt_core.explore.lineage import labels_of
from emt_core.figures import composition, numbers
from emt_core.figures.map_layers import Colouring, MapPoints, draw_map
from emt_core.figures.palette import LEFT_OUT, POOL, SELECTED
from pages.parts import glossary
from pages.parts import view as reading
from pages.parts.cards import gallery
from pages.parts.empty import needs
from pages.parts.runs import page_header
from pages.parts.view import View, current

COLOURS = {"role": "Role", "source": "Source", "category": "Category", "score": "Score", "selected": "Selected"}
NEEDS = {"category": "category", "score": "score", "selected": "select"}
SHOWN = 24


def main() -> None:
    view = current()
    page_header(view, "Map", "How near the pool lies to the robot data, sample by sample.", ("gap", "embed", "sources"))
    needs(view, "sources", "embed", "gap", shows="The map shows pool and robot data in the encoder's feature space.")
    colour, view = _controls(view)
    points = _points(view)
    bounds = Bounds.parse(st.query_params.get("zoom", "")) or _extent(str(view.chain.gap.path))
    figure_at, side_at = st.columns([7, 3], gap="medium")
    with figure_at:
        region = _figure(view, colour, points, bounds)
    rows = rows_in(region, points.x, points.y) if region else None
    with side_at:
        _composition(view, rows, region)
    if rows is not None and len(rows):
        _gallery(view, rows)


def _controls(view: View) -> tuple[str, View]:
    """What to colour by, and the view with the chosen map (a recipe may hold several projections)."""
    usable = [name for name in COLOURS if name not in NEEDS or view.chain.has(NEEDS[name])]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        colour = st.segmented_control(
            "Colour by",
            usable,
            default="category" if "category" in usable else "role",
            required=True,
            format_func=COLOURS.get,
            key="colour",
            bind="query-params",
            help="Grey is what the colour says nothing about. Robot data are orange diamonds whatever the colour.",
        )
        maps = [
            label
            for label in labels_of(view.done, "gap")
            if view.done[label].manifest["parents"].get("embed") == view.chain.embed.key
        ]
        if len(maps) > 1:
            label = st.selectbox("Map", maps[::-1], key="map", bind="query-params", width=220)
            view = replace(view, chain=replace(view.chain, gap=view.done[label]))
        st.segmented_control(
            "Show",
            ["pool", "robot"],
            selection_mode="multi",
            default=["pool", "robot"],
            key="show",
            bind="query-params",
        )
    return colour or "role", view


@st.cache_resource(max_entries=8, show_spinner=False)
def _extent(gap: str) -> Bounds:
    return bounds_of(*reading.map_points(gap))


def _points(view: View) -> MapPoints:
    x, y = view.map_points
    return MapPoints(
        x=x,
        y=y,
        robot=~view.is_pool,
        source=view.codes,
        sources=view.source_names,
        logit=view.logits if view.chain.has("score") else None,
    )


def _colouring(view: View, colour: str) -> Colouring:
    pool = view.is_pool
    if colour == "source":
        return Colouring(names=tuple(view.source_names), colours=view.source_colours, codes=view.codes)
    if colour == "category":
        kinds = view.categories
        codes = np.where(pool, kinds.codes, -1)
        return Colouring(names=tuple(kinds.names), colours=view.category_colours, codes=codes)
    if colour == "selected":
        codes = np.where(pool, (view.reasons.codes != 0).astype(np.int16), -1)
        return Colouring(
            names=("selected", "left out"), colours={"selected": SELECTED, "left out": LEFT_OUT}, codes=codes
        )
    codes = np.where(pool, 0, -1).astype(np.int16)
    base = Colouring(names=("pool",), colours={"pool": POOL}, codes=codes)
    if colour == "score":
        finite = view.logits[np.isfinite(view.logits)]
        low, high = (float(v) for v in np.quantile(finite, [0.02, 0.98])) if len(finite) else (0.0, 1.0)
        return Colouring(**{**vars(base), "values": view.logits, "value_range": (low, high)})
    return base


def _figure(view: View, colour: str, points: MapPoints, bounds: Bounds) -> Region | None:
    """Draw, and read the drawn region back; one from the link holds until another is drawn."""
    shown = tuple(st.session_state.get("show") or ())
    chain = view.chain
    keys = [a.key for a in (chain.gap, chain.score, chain.select, chain.category) if a is not None]
    from_link = Region.parse(st.query_params.get("region", ""))
    # what the figure shows as drawn may not follow the drawing, or each drawing would reset itself
    outline = st.session_state.setdefault("_outline", from_link)
    mark = st.query_params.get("mark", "")
    figure = _drawn(tuple(keys), colour, bounds, shown, outline, mark, _view=view, _points=points)
    key = "map-figure-" + "-".join([chain.gap.key[:6], colour, bounds.text(), *shown])
    event = st.container(border=True).plotly_chart(
        figure,
        key=key,
        on_select="rerun",
        selection_mode=("box", "lasso"),
        config={"displaylogo": False, "scrollZoom": True, "modeBarButtonsToRemove": ["autoScale2d", "resetScale2d"]},
    )
    region = _region_of(event) or from_link
    with st.container(horizontal=True):
        if region is not None:
            st.query_params["region"] = region.text()
            st.button("Zoom to region", icon=":material/zoom_in:", on_click=_zoom, args=(region,))
            st.button("Clear region", icon=":material/close:", on_click=_clear)
        if "zoom" in st.query_params:
            st.button("Whole map", icon=":material/zoom_out_map:", on_click=_zoom, args=(None,))
        if region is None:
            st.caption(":material/select: Drag over the map to look at a region; the lasso is in the bar above it.")
    return region


@st.cache_resource(max_entries=24, show_spinner="Drawing the map")
def _drawn(
    keys: tuple[str, ...],
    colour: str,
    bounds: Bounds,
    shown: tuple[str, ...],
    outline: Region | None,
    mark: str,
    *,
    _view: View,
    _points: MapPoints,
) -> go.Figure:
    marked = _view.index.row_of(mark) if mark else None
    return draw_map(
        _points,
        _colouring(_view, colour),
        bounds,
        show_pool="pool" in shown,
        show_robot="robot" in shown,
        outline=outline,
        marked=marked,
    )


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
    mx, my = 0.04 * (box.x1 - box.x0), 0.04 * (box.y1 - box.y0)
    st.query_params["zoom"] = Bounds(box.x0 - mx, box.x1 + mx, box.y0 - my, box.y1 + my).text()
    st.session_state["_outline"] = None
    st.query_params.pop("region", None)


def _clear() -> None:
    st.query_params.pop("region", None)
    st.session_state["_outline"] = None
    for key in [key for key in st.session_state if str(key).startswith("map-figure-")]:
        del st.session_state[key]


def _composition(view: View, rows: np.ndarray | None, region: Region | None) -> None:
    """Counts and make-up of the region, or of everything."""
    everything = rows is None
    st.subheader("Whole map" if everything else "Region", anchor=False, help=glossary.MAP)
    pool_mask = view.is_pool
    placed = np.isfinite(view.map_points[0])
    chosen = np.flatnonzero(placed) if everything else rows
    in_pool = chosen[pool_mask[chosen]]
    left, right = st.columns(2)
    left.metric("Pool samples", numbers.short(len(in_pool)), help=glossary.POOL)
    right.metric("Robot frames", numbers.short(len(chosen) - len(in_pool)), help=glossary.ROBOT)
    if view.chain.has("score") and len(in_pool):
        left.metric("Mean score", numbers.logit(float(np.nanmean(view.logits[in_pool]))), help=glossary.SCORE)
    if view.chain.has("select") and len(in_pool):
        share = float((view.reasons.codes[in_pool] == 0).mean())
        right.metric("Selected", numbers.share(share), help="Share of these pool samples that the selection takes.")
    if not len(in_pool):
        st.caption("No pool sample lies here.")
        return
    if view.chain.has("category"):
        st.markdown("**By category**")
        kinds = view.categories
        counts = np.bincount(kinds.codes[in_pool], minlength=len(kinds.names))
        st.plotly_chart(
            composition.shares_bar(kinds.names, counts, view.category_colours), config={"displayModeBar": False}
        )
    st.markdown("**By source**")
    counts = np.bincount(view.codes[in_pool], minlength=len(view.source_names))
    st.plotly_chart(
        composition.shares_bar(view.source_names, counts, view.source_colours), config={"displayModeBar": False}
    )


def _gallery(view: View, rows: np.ndarray) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.subheader(f"{numbers.counted(len(rows), 'sample')} in the region", anchor=False)
        orders = ["spread", "nearest first", "farthest first"] if view.chain.has("score") else ["spread"]
        order = st.segmented_control("Order", orders, default="spread", required=True, label_visibility="collapsed")
    if order == "spread":
        shown = spread_sample(rows, view.codes[rows], SHOWN)[:SHOWN]
    else:
        scored = rows[np.isfinite(view.logits[rows])]
        values = view.logits[scored] if order == "farthest first" else -view.logits[scored]
        first = np.argpartition(values, min(SHOWN, len(values)) - 1)[:SHOWN] if len(values) else []
        shown = scored[first][np.argsort(values[first], kind="stable")] if len(values) else scored
    gallery(view, shown)


main()
