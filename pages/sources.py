"""Sources: counts, examples, rejected rows and robot episodes of every source; an editor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.lineage import after_reading, labels_of
from pages.parts import cached, glossary
from pages.parts.cards import image_bytes, webp_uri
from pages.parts.empty import needs
from pages.parts.plain import escape, show_kept_problem, show_problem
from pages.parts.runs import page_header, start
from pages.parts.sources.detail import detail
from pages.parts.sources.editor import editor
from pages.parts.view import View, current
from pages.parts.widgets import action, chart, metrics, one_page, side_by_side

CARDS = 12
TILES = 5
ROLE_BADGE = {"pool": ":blue-badge[pool]", "robot": ":orange-badge[robot data]"}


def main() -> None:
    view = current()
    page_header(
        view,
        "Sources",
        "Your pool and robot data, with every rejected row.",
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
    read = view.index.sources if view.chain.has("sources") else []
    source = next((s for s in read if s.name == name), None)
    if source is not None:
        in_recipe = any(s.name == name for s in wanted)
        detail(view, source, editable=in_recipe and not view.workspace.read_only)
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
    """Label of the `sources` instance in view: that of the chain, else the recipe's first."""
    if view.chain.has("sources"):
        mine = [
            n for n in labels_of(view.done, "sources") if view.done[n].key == view.chain.sources.key
        ]
        if mine:
            return mine[-1].partition("@")[0]
    instances = recipe.instances if recipe else ()
    return next((i.label for i in instances if i.stage == "sources"), "sources")


def _as_read_last(view: View, label: str) -> View:
    """The view of the newest reading of the sources, which no score may have used yet."""
    newest = view.done.get(label)
    if newest is None or not view.chain.has("sources") or newest.key == view.chain.sources.key:
        return view
    return replace(view, chain=after_reading(view.workspace, view.done, newest))


def _ahead(view: View) -> None:
    with side_by_side(border=True):
        st.markdown(
            ":orange[:material/history:] **The sources were read again.** This page shows the new "
            "reading. The other pages show results of the previous one until all stages run again."
        )
        if not view.workspace.read_only:
            action(
                "Run all stages",
                start,
                view,
                None,
                icon="play_arrow",
                type="primary",
                kwargs={"place": "all stages"},
                key="run-everything",
            )
            show_kept_problem("all stages")


def _changed(view: View, label: str, wanted: tuple[SourceConfig, ...]) -> None:
    """Say what changed in the recipe since the sources were read, and offer to read them again."""
    if not wanted:
        return
    was_read = view.chain.has("sources")
    changed = changes(wanted, view.chain.sources.config["sources"]) if was_read else Changes()
    if was_read and not changed:
        return
    with side_by_side(border=True):
        if was_read:
            st.markdown(
                ":orange[:material/history:] **Changed since the sources were read:** "
                f"{escape(changed.sentence)}.  \nThis page shows the last reading; stages that "
                "use the sources are stale until they run again."
            )
        else:
            st.markdown(
                ":gray[:material/radio_button_unchecked:] **The sources have not been read yet.**"
            )
        if not view.workspace.read_only:
            action(
                "Run sources",
                start,
                view,
                label,
                icon="play_arrow",
                type="primary",
                key="run-sources",
                kwargs={"place": "changed sources", "title": "Read the sources"},
            )
    show_kept_problem("changed sources")


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
    with side_by_side(horizontal_alignment="distribute"):
        st.subheader(numbers.counted(len(names), "source"), anchor=False)
        if not view.workspace.read_only and wanted:
            action("Add a source", _edit, "new", icon="add", key="add-source")
    configs = {source.name: source for source in wanted}
    slots = {}
    shown = one_page(names, CARDS, "page", bind="query-params")
    with st.grid("auto", min_column_width=370, gap="small"):
        for name in shown:
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
            slot.image(_strip(view.chain.sources, name, _view=view), width="stretch", alt="")
    if slots:
        _drawn_before().add(view.chain.sources.path)


@st.cache_resource(show_spinner=False)
def _drawn_before() -> set[Path]:
    """Folders of the readings whose strips of images exist, so that cards can show them at once."""
    return set()


def _edit(what: str) -> None:
    st.query_params["edit"] = what


def _totals(view: View) -> None:
    counts = view.chain.sources.metrics
    size = sum(source.facts["bytes"] for source in view.index.sources)
    metrics(
        ("Pool samples", numbers.short(counts["pool"]), glossary.POOL),
        ("Robot frames", numbers.short(counts["robot"]), glossary.ROBOT),
        ("Rejected", numbers.short(sum(counts["rejects"].values())), glossary.REJECTED),
        ("Text only", numbers.short(counts["text_only"]), glossary.TEXT_ONLY),
        ("Several images", numbers.short(counts["multi_image"])),
        ("On disk", numbers.size(size), glossary.SOURCE_BYTES),
    )


def _card(view: View, source: SourceRange, *, removed: bool) -> DeltaGenerator | None:
    """Draw a card.

    The first time, images are made after all cards are drawn: then the slot for them is returned,
    which an empty strip of the same size fills until then.
    """
    facts = source.facts
    with side_by_side(horizontal_alignment="distribute", gap="xsmall"):
        st.markdown(_title(source.name, source.role, facts["format"]))
        action("Open", _open, source.name, icon="open_in_full", key=f"open-{source.name}")
    slot = None
    if view.chain.sources.path in _drawn_before():
        st.image(_strip(view.chain.sources, source.name, _view=view), width="stretch", alt="")
    else:
        slot = st.empty()
        slot.image(webp_uri(contact_strip([], columns=TILES)), width="stretch", alt="")
    rejected = sum(facts["rejects"].values())
    counts = [f"**{numbers.whole(facts['kept'])}** kept"]
    if rejected:
        counts.append(f":orange[{numbers.whole(rejected)} rejected]")
    counts += [
        f"{numbers.whole(facts[key])} {words}"
        for key, words in (("text_only", "text only"), ("multi_image", "with several images"))
        if facts[key]
    ]
    counts.append(numbers.size(facts["bytes"]))
    st.markdown(" · ".join(counts))
    if removed:
        st.caption(":orange[:material/history:] no longer in the recipe")
    return slot


def _title(name: str, role: str, format_: str) -> str:
    return f"**{escape(name)}** {ROLE_BADGE[role]} :small[:gray[{escape(format_)}]]"


def _unread_card(view: View, source: SourceConfig) -> None:
    st.markdown(_title(source.name, source.role, source.format))
    st.text(source.path)
    st.caption(":gray[:material/radio_button_unchecked:] in the recipe, not read yet")
    if not view.workspace.read_only:
        action("Edit", _edit, source.name, icon="edit", key=f"edit-{source.name}")


def _open(name: str) -> None:
    st.query_params["source"] = name


@cached.shared(max_entries=128)
def _strip(sources: Artifact, name: str, *, _view: View) -> str:
    """Some of the source's images side by side, as a data URI; seeded, so the same each time."""
    source = next(s for s in _view.index.sources if s.name == name)
    thumbs = [
        image_bytes(_view, row, sample.images[0], 2 * TILE_PX)
        for row, sample in handful(_view.index, source, TILES)
    ]
    return webp_uri(contact_strip(thumbs, columns=TILES))


@cached.shared(max_entries=8)
def _counts(category: Artifact, *, _view: View) -> np.ndarray:
    """int64 [sources, categories]."""
    kinds = _view.categories
    shape = (len(_view.source_names), len(kinds.names))
    joint = _view.codes.astype(np.int64) * shape[1] + kinds.codes
    return np.bincount(joint[kinds.codes >= 0], minlength=shape[0] * shape[1]).reshape(shape)


def _mix(view: View) -> None:
    st.subheader("Question types by source", anchor=False, help=glossary.CATEGORY)
    if not view.chain.has("category"):
        st.caption("Categories appear here once the category stage has run.")
        return
    counts = _counts(view.chain.category, _view=view)
    pool = [place for place, source in enumerate(view.index.sources) if source.role == "pool"]
    chart(
        source_mix(
            [view.source_names[p] for p in pool],
            view.categories.names,
            counts[pool],
            view.category_colors,
        )
    )


def _table(view: View) -> None:
    box = st.expander(
        "All counts as a table", icon=":material/table:", on_change="rerun", key="counts"
    )
    if not box.open:
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
                "rejected": sum(source.facts["rejects"].values()),
                "text only": source.facts["text_only"],
                "several images": source.facts["multi_image"],
                "bytes": source.facts["bytes"],
                "path": paths.get(source.name, ""),
            }
            for source in view.index.sources
        ]
        st.dataframe(rows, hide_index=True)
        rejects = view.chain.sources.metrics["rejects"]
        if rejects:
            st.markdown("**Rejected, by reason**")
            named = [{"reason": glossary.reason(r), "rows": n} for r, n in rejects.items()]
            st.dataframe(named, hide_index=True)


main()
