"""One source: counts, examples, question types, rejected rows, and episodes of robot data."""

from __future__ import annotations

import numpy as np
import streamlit as st

from emt_core.data.index import SourceRange
from emt_core.explore import numbers
from emt_core.explore.figures.select import shares_bar
from emt_core.explore.tables.contact_strip import handful
from emt_core.explore.tables.rejects import MAX_LINES, RejectLog, read_rejects
from emt_core.recipe.sources import EpisodeSource, SourceConfig, SourcesConfig
from emt_core.run.edits import remove_source
from emt_core.workspace.artifact import Artifact
from pages.parts import cached, glossary
from pages.parts.cards import gallery
from pages.parts.plain import attempt, escape, show_kept_problem
from pages.parts.sources.episode_player import episodes
from pages.parts.view import View
from pages.parts.widgets import action, chart, choice, metrics, one_page, side_by_side

EXAMPLES = 8
REJECTS_A_PAGE = 25


def detail(view: View, source: SourceRange, *, editable: bool) -> None:
    _head(view, source, editable)
    _numbers(source)
    config = config_of(view, source.name)
    if isinstance(config, EpisodeSource):
        episodes(view, source, config)
    _examples(view, source)
    if source.role == "pool" and view.chain.has("category"):
        st.subheader("Question types", anchor=False, help=glossary.CATEGORY)
        kinds = view.categories
        codes = kinds.codes[source.start : source.stop]
        counts = np.bincount(codes[codes >= 0], minlength=len(kinds.names))
        chart(shares_bar(kinds.names, counts, view.category_colors))
    _rejects(view, source)


def config_of(view: View, name: str) -> SourceConfig:
    """The settings the source was read with."""
    return next(
        s for s in SourcesConfig.model_validate(view.chain.sources.config).sources if s.name == name
    )


def _head(view: View, source: SourceRange, editable: bool) -> None:
    badge = ":orange-badge[robot data]" if source.role == "robot" else ":blue-badge[pool]"
    with side_by_side(horizontal_alignment="distribute"):
        with side_by_side(gap="small", width="content"):
            action("All sources", _leave, icon="arrow_back", shortcut="Escape", key="all-sources")
            st.header(source.name, anchor=False)
            st.markdown(f"{badge} :gray-badge[{escape(source.facts['format'])}]")
        if editable:
            with st.container(horizontal=True, gap="small", width="content"):
                action("Edit", _edit, source.name, icon="edit", key="edit-source")
                if st.button("Remove", icon=":material/delete:", key="remove-source"):
                    _confirm(view, source.name)
    st.text(config_of(view, source.name).path)
    show_kept_problem("source")


def _leave() -> None:
    for name in ("source", "episode"):
        st.query_params.pop(name, None)


def _edit(name: str) -> None:
    st.query_params["edit"] = name


@st.dialog("Remove this source?")
def _confirm(view: View, name: str) -> None:
    st.text(name)
    st.markdown(
        "It is removed from the workspace's copy of the recipe. Its data are not touched, and "
        "results stay until the stages run again without it."
    )
    with st.container(horizontal=True):
        if action(
            "Remove", _remove, view, name, icon="delete", type="primary", key="remove-confirmed"
        ):
            st.rerun()
        if st.button("Cancel", key="remove-cancelled"):
            st.rerun()


def _remove(view: View, name: str) -> None:
    label = st.session_state["_sources_label"]
    if attempt("source", remove_source, view.workspace, view.recipe, name, label=label):
        _leave()


def _numbers(source: SourceRange) -> None:
    facts = source.facts
    shown = [
        ("Rows seen", numbers.short(facts["seen"])),
        ("Kept", numbers.short(facts["kept"])),
        ("Rejected", numbers.short(sum(facts["rejects"].values())), glossary.REJECTED),
    ]
    if source.role == "pool":
        shown.append(("Text only", numbers.short(facts["text_only"]), glossary.TEXT_ONLY))
        shown.append(("Several images", numbers.short(facts["multi_image"])))
    metrics(*shown, ("On disk", numbers.size(facts["bytes"]), glossary.SOURCE_BYTES))


def _examples(view: View, source: SourceRange) -> None:
    seed = st.session_state.setdefault("_examples_seed", 0)
    with side_by_side(horizontal_alignment="distribute"):
        st.subheader(
            "Examples", anchor=False, help="A seeded sample; one per episode for robot data."
        )
        if st.button("Shuffle", icon=":material/shuffle:", key="other-examples"):
            seed = st.session_state["_examples_seed"] = seed + 1
    drawn = handful(view.index, source, EXAMPLES, seed=seed)
    if drawn:
        gallery(view, [row for row, _ in drawn], width=150)
    else:
        st.caption("None of the sampled rows has an image.")


@cached.shared(max_entries=4, show_spinner="Reading the rejected rows")
def _log(sources: Artifact) -> RejectLog:
    return read_rejects(sources.data / "rejects.jsonl")


def _rejects(view: View, source: SourceRange) -> None:
    reasons: dict[str, int] = source.facts["rejects"]
    st.subheader("Rejected rows", anchor=False, help=glossary.REJECTED)
    if not reasons:
        st.caption(":green[:material/check_circle:] Every row became a sample.")
        return
    log = _log(view.chain.sources)
    total = sum(reasons.values())
    reason = choice(
        "Reason",
        ["", *reasons],
        key=f"reason-{source.name}",
        in_url=False,
        format_func=lambda r: f"{escape(_words(r))} ({numbers.whole(reasons.get(r, total))})",
        label_visibility="collapsed",
    )
    lines = log.matching(source.name, reason or None)
    shown = log.read(one_page(lines, REJECTS_A_PAGE, f"rejects-{source.name}-{reason}"))
    rows = [
        {
            "row": entry["row"],
            "reason": _words(entry["reason"]),
            "detail": entry["detail"],
            "own id": entry["own_id"],
        }
        for entry in shown
    ]
    widths = {"row": {"width": "small"}, "detail": {"width": "large"}}
    st.dataframe(rows, hide_index=True, column_config=widths)
    if not log.complete:
        most = numbers.short(MAX_LINES)
        st.caption(f"The list holds the first {most} rejected rows of all sources.")


def _words(reason: str) -> str:
    return "all" if not reason else reason.replace("_", " ")
