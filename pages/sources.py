"""Sources: what is read, what is left out and why, how it looks; robot episodes play; sources are added and changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from emt_core.data.index import SourceRange
from emt_core.errors import EmtError
from emt_core.explore import numbers
from emt_core.explore.figures.sources import source_mix
from emt_core.explore.tables.contact_strip import TILE_PX, contact_strip, handful
from emt_core.recipe.recipe import Recipe, load_recipe
from emt_core.recipe.sources import SourceConfig, SourcesConfig
from emt_core.run.edits import Changes, changes, recipe_sources
from emt_core.workspace.files import read_json
from emt_core.workspace.lineage import after_reading, labels_of
from pages.parts import glossary
from pages.parts.cards import image_bytes, webp_uri
from pages.parts.empty import needs
from pages.parts.plain import escape, show_problem
from pages.parts.runs import page_header, start
from pages.parts.sources.detail import detail
from pages.parts.sources.editor import editor
from pages.parts.view import View, current

CARDS = 12
TILES = 5
ROLE_BADGE = {"pool": ":blue-badge[pool]", "robot": ":orange-badge[robot data]"}


def main() -> None:
    view = current()
    page_header(
        view,
        "Sources",
        "What goes in: the pool, the robot data, and every row left out.",
        ("sources",),
    )
    if view.recipe_file is None:
        needs(
            view, "sources", shows="Each source appears here with its counts, images and episodes."
        )
        return
    recipe = _recipe(view)
    label = st.session_state["_sources_label"] = _label(view, recipe)
    latest = _as_read_last(view, label)
    if latest is not view:
        _ahead(view)
    view = latest
    wanted = recipe_sources(recipe, label) if recipe else ()
    asked = st.query_params.get("edit")
    if asked is not None and recipe is not None and not view.workspace.read_only:
        editor(view, recipe, label, wanted, None if asked == "new" else asked)
        return
    _changed(view, label, wanted)
    name = st.query_params.get("source")
    found = (
        next((s for s in view.index.sources if s.name == name), None)
        if view.chain.has("sources")
        else None
    )
    if found is not None:
        detail(
            view,
            found,
            editable=not view.workspace.read_only and any(s.name == name for s in wanted),
        )
        return
    if name is not None:
        st.query_params.pop("source")
    _everything(view, wanted)


def _recipe(view: View) -> Recipe | None:
    try:
        return load_recipe(view.recipe_file)
    except EmtError as error:
        show_problem(error)
        return None


def _label(view: View, recipe: Recipe | None) -> str:
    """The `sources` instance that is shown: the one this chain was made from, else the recipe's first."""
    if view.chain.has("sources"):
        mine = [
            n for n in labels_of(view.done, "sources") if view.done[n].key == view.chain.sources.key
        ]
        if mine:
            return mine[-1].partition("@")[0]
    return (
        next((i.label for i in recipe.instances if i.stage == "sources"), "sources")
        if recipe
        else "sources"
    )


def _as_read_last(view: View, label: str) -> View:
    """The view from the last reading of the sources on: other pages stay with what their scores were made from."""
    newest = view.done.get(label)
    if newest is None or not view.chain.has("sources") or newest.key == view.chain.sources.key:
        return view
    return replace(view, chain=after_reading(view.workspace, view.done, newest))


def _ahead(view: View) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(
            ":orange[:material/history:] **The sources were read anew.** This page shows them as read last; features, "
            "scores and selections of the other pages are of the reading before, until they run again."
        )
        if not view.workspace.read_only:
            st.button(
                "Run everything",
                icon=":material/play_arrow:",
                type="primary",
                key="run-everything",
                on_click=start,
                args=(view, None),
            )


def _changed(view: View, label: str, wanted: tuple[SourceConfig, ...]) -> None:
    """The recipe says something else than what was read: say so, and offer to read again."""
    if not wanted:
        return
    found = (
        Changes()
        if not view.chain.has("sources")
        else changes(wanted, view.chain.sources.config["sources"])
    )
    if view.chain.has("sources") and not found:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        if view.chain.has("sources"):
            st.markdown(
                f":orange[:material/history:] **Changed since the sources were read:** {escape(found.sentence)}."
                "  \nEverything made from them is stale until it runs again; what is shown here is what was read last."
            )
        else:
            st.markdown(
                ":gray[:material/radio_button_unchecked:] **The sources have not been read yet.**"
            )
        if not view.workspace.read_only:
            st.button(
                "Run sources",
                icon=":material/play_arrow:",
                type="primary",
                key="run-sources",
                on_click=start,
                args=(view, label),
                kwargs={"title": "Read the sources"},
            )
    problem = st.session_state.pop("_launch_problem", None)
    if problem is not None:
        show_problem(problem)


def _everything(view: View, wanted: tuple[SourceConfig, ...]) -> None:
    if view.chain.has("sources"):
        _totals(view)
    read = (
        {source.name: source for source in view.index.sources} if view.chain.has("sources") else {}
    )
    names = [
        *(s.name for s in wanted),
        *(name for name in read if all(s.name != name for s in wanted)),
    ]
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.subheader(numbers.counted(len(names), "source"), anchor=False)
        if not view.workspace.read_only and wanted:
            st.button(
                "Add a source",
                icon=":material/add:",
                on_click=_edit,
                args=("new",),
                key="add-source",
            )
    pages = -(-len(names) // CARDS)
    page = 1
    if pages > 1:
        page = st.pagination(pages, key="page", bind="query-params")
    configs = {source.name: source for source in wanted}
    slots = {}
    with st.grid("auto", min_column_width=370, gap="small"):
        for name in names[(page - 1) * CARDS : page * CARDS]:
            with st.container(border=True, gap="xsmall", height="stretch"):
                if name in read:
                    slots[name] = _card(
                        view, read[name], removed=bool(wanted) and name not in configs
                    )
                else:
                    _unread_card(view, configs[name])
    if view.chain.has("sources"):
        _mix(view)
        _table(view)
    for name, slot in slots.items():
        if slot is not None:
            slot.image(
                _strip(str(view.chain.sources.path), name, _view=view), width="stretch", alt=""
            )
    if slots:
        _drawn_before().add(str(view.chain.sources.path))


@st.cache_resource(show_spinner=False)
def _drawn_before() -> set[str]:
    """Readings whose strips are made: their cards come with pictures at once."""
    return set()


def _edit(what: str) -> None:
    st.query_params["edit"] = what


def _totals(view: View) -> None:
    metrics = view.chain.sources.metrics
    rejected = sum(metrics["rejects"].values())
    with st.grid(6, min_column_width=118, gap="small"):
        st.metric("Pool samples", numbers.short(metrics["pool"]), help=glossary.POOL, border=True)
        st.metric("Robot frames", numbers.short(metrics["robot"]), help=glossary.ROBOT, border=True)
        st.metric("Left out", numbers.short(rejected), help=glossary.REJECTED, border=True)
        st.metric(
            "Text only", numbers.short(metrics["text_only"]), help=glossary.TEXT_ONLY, border=True
        )
        st.metric("Several images", numbers.short(metrics["multi_image"]), border=True)
        total = sum(source.facts["bytes"] for source in view.index.sources)
        st.metric("On disk", numbers.size(total), help=glossary.SOURCE_BYTES, border=True)


def _card(view: View, source: SourceRange, *, removed: bool) -> DeltaGenerator | None:
    """A card. The first time pictures are made after all cards are drawn: then their place is returned, which a clear
    strip of the same size holds until they come."""
    facts = source.facts
    with st.container(
        horizontal=True,
        vertical_alignment="center",
        horizontal_alignment="distribute",
        gap="xsmall",
    ):
        st.markdown(
            f"**{escape(source.name)}** {ROLE_BADGE[source.role]} :small[:gray[{escape(facts['format'])}]]"
        )
        st.button(
            "Open",
            icon=":material/open_in_full:",
            key=f"open-{source.name}",
            on_click=_open,
            args=(source.name,),
        )
    slot = None
    if str(view.chain.sources.path) in _drawn_before():
        st.image(
            _strip(str(view.chain.sources.path), source.name, _view=view), width="stretch", alt=""
        )
    else:
        slot = st.empty()
        slot.image(webp_uri(contact_strip([], columns=TILES)), width="stretch", alt="")
    rejected = sum(facts["rejects"].values())
    said = [f"**{numbers.whole(facts['kept'])}** kept"]
    if rejected:
        said.append(f":orange[{numbers.whole(rejected)} left out]")
    said += [
        f"{numbers.whole(facts[key])} {words}"
        for key, words in (("text_only", "text only"), ("multi_image", "with several images"))
        if facts[key]
    ]
    said.append(numbers.size(facts["bytes"]))
    st.markdown(" · ".join(said))
    if removed:
        st.caption(":orange[:material/history:] no longer in the recipe")
    return slot


def _unread_card(view: View, source: SourceConfig) -> None:
    st.markdown(
        f"**{escape(source.name)}** {ROLE_BADGE[source.role]} :small[:gray[{escape(source.format)}]]"
    )
    st.text(source.path)
    st.caption(":gray[:material/radio_button_unchecked:] in the recipe, not read yet")
    if not view.workspace.read_only:
        st.button(
            "Edit",
            icon=":material/edit:",
            on_click=_edit,
            args=(source.name,),
            key=f"edit-{source.name}",
        )


def _open(name: str) -> None:
    st.query_params["source"] = name


@st.cache_resource(max_entries=128, show_spinner=False)
def _strip(artifact: str, name: str, *, _view: View) -> str:
    """The address of a seeded handful of the source's images; the same each time, so that cards do not jump."""
    source = next(s for s in _view.index.sources if s.name == name)
    thumbs = [
        image_bytes(_view, row, sample.images[0], 2 * TILE_PX)
        for row, sample in handful(_view.index, source, TILES)
    ]
    return webp_uri(contact_strip(thumbs, columns=TILES))


@st.cache_resource(max_entries=8, show_spinner=False)
def _counts(sources: str, category: str, *, _view: View) -> np.ndarray:
    """int64 [sources, categories]."""
    kinds = _view.categories
    joint = _view.codes.astype(np.int64) * len(kinds.names) + kinds.codes
    return np.bincount(
        joint[kinds.codes >= 0], minlength=len(_view.source_names) * len(kinds.names)
    ).reshape(len(_view.source_names), -1)


def _mix(view: View) -> None:
    st.subheader("What each pool source asks for", anchor=False, help=glossary.CATEGORY)
    if not view.chain.has("category"):
        st.caption("Categories appear here once the category stage has run.")
        return
    counts = _counts(str(view.chain.sources.path), str(view.chain.category.path), _view=view)
    pool = [place for place, source in enumerate(view.index.sources) if source.role == "pool"]
    st.plotly_chart(
        source_mix(
            [view.source_names[p] for p in pool],
            view.categories.names,
            counts[pool],
            view.category_colors,
        ),
        config={"displayModeBar": False},
    )


def _table(view: View) -> None:
    box = st.expander(
        "All counts as a table", icon=":material/table:", on_change="rerun", key="counts"
    )
    if not box.open:  # a closed box draws nothing: the browser would load what tables need
        return
    with box:
        configs = SourcesConfig.model_validate(view.chain.sources.config).sources
        paths = {config.name: config.path for config in configs}
        rows = [
            {
                "source": source.name,
                "role": source.role,
                "format": source.facts["format"],
                "rows seen": source.facts["seen"],
                "kept": source.facts["kept"],
                "left out": sum(source.facts["rejects"].values()),
                "text only": source.facts["text_only"],
                "several images": source.facts["multi_image"],
                "bytes": source.facts["bytes"],
                "path": paths.get(source.name, ""),
            }
            for source in view.index.sources
        ]
        st.dataframe(rows, hide_index=True)
        rejects = read_json(view.chain.sources.path / "manifest.json")["metrics"]["rejects"]
        if rejects:
            st.markdown("**Left out, by reason**")
            st.dataframe(
                [
                    {"reason": glossary.reason(name), "rows": count}
                    for name, count in rejects.items()
                ],
                hide_index=True,
            )


main()
