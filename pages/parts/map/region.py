"""A region of the map: its composition, a gallery of its samples, and buttons."""

from __future__ import annotations

from functools import partial

import numpy as np
import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore import numbers
from emt_core.explore.curation.flags import FLAGS
from emt_core.explore.figures.select import shares_bar
from emt_core.explore.tables.map import Region, spread_sample
from emt_core.explore.tables.region_table import MOST_ROWS, rows_as_file
from pages.parts import flagging, glossary
from pages.parts.cards import gallery
from pages.parts.map.figure import filters
from pages.parts.map.views import save_view
from pages.parts.router import link_to
from pages.parts.view import View
from pages.parts.widgets import action, chart, choice, side_by_side

SHOWN = 24
MIME = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


def counts(view: View, rows: np.ndarray, title: str) -> np.ndarray:
    """Draw the numbers of these rows; returns the pool samples among them (int64)."""
    st.subheader(title, anchor=False, help=glossary.MAP)
    in_pool = rows[view.is_pool[rows]]
    left, right = st.columns(2)
    left.metric("Pool samples", numbers.short(len(in_pool)), help=glossary.POOL)
    right.metric("Robot frames", numbers.short(len(rows) - len(in_pool)), help=glossary.ROBOT)
    if view.chain.has("score") and len(in_pool):
        scored = view.logits[in_pool]
        scored = scored[np.isfinite(scored)]
        median = float(np.median(scored)) if len(scored) else None
        left.metric("Median score", numbers.logit(median), help=view.score_scale.help)
    if view.chain.has("select") and len(in_pool):
        eligible = np.count_nonzero(view.eligible[in_pool])
        share = np.count_nonzero(view.selected[in_pool]) / eligible if eligible else None
        right.metric("Selected", numbers.share(share), help=glossary.SHARE_SELECTED)
    if not len(in_pool):
        st.caption("No pool samples here.")
    return in_pool


def composition(view: View, in_pool: np.ndarray) -> None:
    """Draw the categories and sources of these pool samples."""
    if not len(in_pool):
        return
    if view.chain.has("category"):
        st.markdown("**By category**")
        kinds = view.categories
        by_category = np.bincount(kinds.codes[in_pool], minlength=len(kinds.names))
        chart(shares_bar(kinds.names, by_category, view.category_colors))
    st.markdown("**By source**")
    by_source = np.bincount(view.codes[in_pool], minlength=len(view.source_names))
    chart(shares_bar(view.source_names, by_source, view.source_colors))


def region_gallery(view: View, rows: np.ndarray, region: Region) -> None:
    """Title, tools and at most SHOWN cards."""
    st.subheader(f"{numbers.counted(len(rows), 'sample')} in the region", anchor=False)
    with side_by_side():
        _tools(view, rows, region)
        by_score = ["nearest first", "farthest first"] if view.chain.has("score") else []
        order = choice(
            "Order", ["spread", *by_score], key="order", in_url=False, label_visibility="collapsed"
        )
    flagging.last_change(view, "map")
    gallery(view, _first(view, rows, order))


def _first(view: View, rows: np.ndarray, order: str) -> np.ndarray:
    if order == "spread":
        return spread_sample(rows, view.codes[rows], SHOWN)[:SHOWN]
    scored = rows[np.isfinite(view.logits[rows])]
    if not len(scored):
        return scored
    values = view.logits[scored] if order == "farthest first" else -view.logits[scored]
    first = np.argpartition(values, min(SHOWN, len(values)) - 1)[:SHOWN]
    return scored[first][np.argsort(values[first], kind="stable")]


def _tools(view: View, rows: np.ndarray, region: Region) -> None:
    in_pool = rows[view.is_pool[rows]]
    if not view.workspace.read_only:
        action(
            f"Exclude {numbers.short(len(in_pool))}",
            flagging.put,
            view,
            in_pool,
            "exclude",
            "region of the map",
            icon="block",
            disabled=not len(in_pool),
            help="Flags every pool sample of the region as exclude; Select can then exclude them.",
        )
        flagging.bulk(view, in_pool, what="region of the map", title="Flag region", key="region")
    save_view(view, region, len(rows))
    _download(view, rows)
    query = {
        "set": glossary.SETS["pool"],
        "region": region.text(),
        "on": view.chain.gap.key,
        "recipe": view.recipe,
        **filters(),
    }
    link_to("browse", "Browse all", query=query)


def _download(view: View, rows: np.ndarray) -> None:
    with st.popover("Export", icon=":material/download:"):
        counted = numbers.counted(len(rows), "row")
        st.markdown(f"**{counted}**: id, row, source, category, score, flag, x, y.")
        if len(rows) > MOST_ROWS:
            st.caption(f"At most {numbers.whole(MOST_ROWS)} rows: draw a smaller region.")
            return
        for name in MIME:
            st.download_button(
                name.upper() if name == "csv" else "Parquet",
                data=partial(_file, view, rows, name),
                file_name=f"region.{name}",
                mime=MIME[name],
                key=f"download-{name}",
                icon=":material/download:",
                on_click="ignore",
                width="stretch",
            )


def _file(view: View, rows: np.ndarray, name: str) -> bytes:
    x, y = view.map_points
    columns: dict[str, np.ndarray] = {"x": x, "y": y}
    names: dict = {"source": (view.codes, view.source_names), "flag": (view.flags.codes, FLAGS)}
    if view.chain.has("score"):
        columns = {"score": view.logits, **columns}
    if view.chain.has("category"):
        kinds = view.categories
        names["category"] = (kinds.codes, kinds.names)
    try:
        return rows_as_file(view.index, rows, numbers=columns, names=names, format=name)
    except EmtError as error:
        return error.message().encode()
