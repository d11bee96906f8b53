"""Saved regions of the map, and a form that adds another map of the same samples."""

from __future__ import annotations

import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore import numbers
from emt_core.explore.curation.views import NAME_CHARS, NOTE_CHARS, SavedView
from emt_core.explore.tables.map import PROJECTIONS, Region
from emt_core.run.edits import add_map
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.lineage import labels_of
from pages.parts.map.figure import FILTERS, filters, restore, usable_colors
from pages.parts.plain import attempt, escape, show_kept_problem, show_problem
from pages.parts.runs import start
from pages.parts.sidebar import short_label
from pages.parts.view import View
from pages.parts.widgets import action, choice, side_by_side

IN_LINK = ("zoom", "region", "color", "map")
LISTED = 30


def map_name(artifact: Artifact, label: str, encoder: str) -> str:
    """`UMAP, main`: projection and encoder."""
    method = PROJECTIONS.get(artifact.config.get("projection", ""), short_label(label))
    return f"{method}, {encoder}" if encoder else method


def encoder_name(view: View, gap: Artifact) -> str:
    """The embed instance that a map was made from, where there are several."""
    embeds = labels_of(view.done, "embed")
    mine = [
        label for label in embeds if view.done[label].key == gap.manifest["parents"].get("embed")
    ]
    return short_label(mine[0]) if mine and len(embeds) > 1 else ""


def save_view(view: View, region: Region, rows: int) -> None:
    """A popover with a form that saves the region under a name."""
    if view.workspace.read_only:
        return
    with (
        st.popover("Save view", icon=":material/bookmark_add:"),
        st.form("save-view", border=False),
    ):
        name = st.text_input(
            "Name", max_chars=NAME_CHARS, placeholder="for example points on drawers"
        )
        note = st.text_input("Note", max_chars=NOTE_CHARS, placeholder="optional")
        if st.form_submit_button("Save", type="primary", icon=":material/bookmark_add:"):
            query = {key: st.query_params[key] for key in IN_LINK if key in st.query_params}
            query["color"] = st.session_state.get("color") or "role"
            query |= {name: "\n".join(chosen) for name, chosen in filters().items()}
            saved = SavedView(
                name=name,
                note=note,
                page="map",
                query={**query, "region": region.text()},
                gap=view.chain.gap.key,
                rows=rows,
            )
            try:
                view.view_book.save(saved)
            except EmtError as error:
                show_problem(error)
            else:
                words = "Saved. Restore it under Views, or filter by it in Browse."
                st.success(words, icon=":material/check:")


def saved_views(view: View) -> None:
    """A popover that lists the saved regions."""
    try:
        found = [saved for saved in view.view_book.read() if saved.region is not None]
    except EmtError as error:
        show_problem(error)
        return
    with st.popover(f"Views ({len(found)})", icon=":material/bookmarks:", disabled=not found):
        for saved in found[:LISTED]:
            _saved_view(view, saved)
        show_kept_problem("saved views")
        if len(found) > LISTED:
            st.caption(f"and {len(found) - LISTED} older ones")


def _saved_view(view: View, saved: SavedView) -> None:
    other = saved.gap != view.chain.gap.key
    with side_by_side(gap="small"):
        action(
            escape(saved.name),
            _restore,
            view,
            saved,
            icon="select",
            key=f"view-{saved.name}",
            disabled=other,
            help="Drawn on another map; choose that map first." if other else None,
        )
        st.caption(numbers.counted(saved.rows, "sample"), width="content")
        if not view.workspace.read_only:
            action("", _drop, view, saved, icon="delete", key=f"drop-{saved.name}", type="tertiary")
    if saved.note:
        st.text(saved.note)


def _restore(view: View, saved: SavedView) -> None:
    restore(saved.region)
    if "zoom" in saved.query:
        st.query_params["zoom"] = saved.query["zoom"]
    else:
        st.query_params.pop("zoom", None)
    color = saved.query.get("color") or saved.query.get("colour")  # its name in older versions
    if color in usable_colors(view):
        st.session_state["color"] = color
    for name in FILTERS:
        st.session_state[name] = saved.query.get(name, "").splitlines()


def _drop(view: View, saved: SavedView) -> None:
    attempt("saved views", view.view_book.remove, saved.name)


def another_map(view: View) -> None:
    """A popover that adds a map with another projection or encoder to the recipe and runs it."""
    if view.workspace.read_only or not view.recipe:
        return
    embeds = view.labels_over("embed")[::-1]
    with st.popover("Another map", icon=":material/add_location_alt:"):
        st.caption("Adds one entry to the workspace's copy of the recipe and runs it as a job.")
        method = choice(
            "Projection",
            PROJECTIONS,
            default="pacmap",
            format_func=PROJECTIONS.get,
            key="new-map",
            in_url=False,
        )
        label = next(iter(embeds), "")
        if len(embeds) > 1:
            label = st.selectbox(
                "Features", embeds, format_func=short_label, key="new-map-features"
            )
        neighbors = st.number_input(
            "Neighbors",
            2,
            200,
            int(view.chain.gap.config.get("neighbors", 15)),
            key="new-map-neighbors",
        )
        pressed = action(
            "Run",
            attempt,
            "another map",
            _add,
            view,
            method,
            label,
            int(neighbors),
            icon="play_arrow",
            type="primary",
            disabled=not embeds,
        )
    if not show_kept_problem("another map") and pressed:
        st.rerun()  # the job is shown at the top of the page, outside of the fragment


def _add(view: View, method: str, label: str, neighbors: int) -> None:
    """Add a map with the settings of the one in view, except for these."""
    config = {**view.chain.gap.config, "projection": method, "neighbors": neighbors}
    name = f"{method}-{neighbors}" + (
        f"-{short_label(label)}" if short_label(label) != "embed" else ""
    )
    embed, sources = view.done[label], view.chain.sources
    added = add_map(view.workspace, view.recipe, name[:40], config, embed, sources, view.done)
    start(view, added, place="another map", title=f"Map {name}")
