"""One source: counts, examples, what it asks for, the rows left out, and for robot data its episodes."""

from __future__ import annotations

import numpy as np
import streamlit as st

from emt_core.data.index import SourceRange
from emt_core.errors import EmtError
from emt_core.explore import numbers
from emt_core.explore.figures import select as composition
from emt_core.explore.tables.contact_strip import handful
from emt_core.explore.tables.rejects import MAX_LINES, RejectLog, read_rejects
from emt_core.recipe.sources import LeRobotSource, SourceConfig, SourcesConfig
from emt_core.run.edits import remove_source
from emt_core.workspace.artifact import Artifact
from pages.parts import cached, glossary
from pages.parts.cards import gallery
from pages.parts.plain import escape, show_problem
from pages.parts.sources.episode_player import episodes
from pages.parts.view import View
from pages.parts.widgets import action, chart, side_by_side

EXAMPLES = 8
REJECTS_A_PAGE = 25


def detail(view: View, source: SourceRange, *, editable: bool) -> None:
    _head(view, source, editable)
    _numbers(source)
    config = config_of(view, source.name)
    if isinstance(config, LeRobotSource):
        episodes(view, source, config)
    _examples(view, source)
    if source.role == "pool" and view.chain.has("category"):
        st.subheader("What it asks for", anchor=False, help=glossary.CATEGORY)
        kinds = view.categories
        codes = kinds.codes[source.start : source.stop]
        counts = np.bincount(codes[codes >= 0], minlength=len(kinds.names))
        chart(composition.shares_bar(kinds.names, counts, view.category_colors))
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
    problem = st.session_state.pop("_edit_problem", None)
    if problem is not None:
        show_problem(problem)


def _leave() -> None:
    for name in ("source", "episode"):
        st.query_params.pop(name, None)


def _edit(name: str) -> None:
    st.query_params["edit"] = name


@st.dialog("Remove this source?")
def _confirm(view: View, name: str) -> None:
    st.text(name)
    st.markdown(
        "It leaves the workspace's copy of the recipe. Its data are not touched, and what was made with it stays until "
        "the stages run again without it."
    )
    with st.container(horizontal=True):
        if action(
            "Remove", _remove, view, name, icon="delete", type="primary", key="remove-confirmed"
        ):
            st.rerun()
        if st.button("Keep it", key="remove-cancelled"):
            st.rerun()


def _remove(view: View, name: str) -> None:
    try:
        remove_source(view.workspace, view.recipe, name, label=st.session_state["_sources_label"])
    except EmtError as error:
        st.session_state["_edit_problem"] = error
    else:
        _leave()


def _numbers(source: SourceRange) -> None:
    facts = source.facts
    rejected = sum(facts["rejects"].values())
    with st.grid(6, min_column_width=118, gap="small"):
        st.metric("Rows seen", numbers.short(facts["seen"]), border=True)
        st.metric("Kept", numbers.short(facts["kept"]), border=True)
        st.metric("Left out", numbers.short(rejected), help=glossary.REJECTED, border=True)
        if source.role == "pool":
            st.metric(
                "Text only", numbers.short(facts["text_only"]), help=glossary.TEXT_ONLY, border=True
            )
            st.metric("Several images", numbers.short(facts["multi_image"]), border=True)
        st.metric("On disk", numbers.size(facts["bytes"]), help=glossary.SOURCE_BYTES, border=True)


def _examples(view: View, source: SourceRange) -> None:
    seed = st.session_state.setdefault("_examples_seed", 0)
    with side_by_side(horizontal_alignment="distribute"):
        st.subheader(
            "Examples", anchor=False, help="A seeded handful, one an episode for robot data."
        )
        if st.button("Others", icon=":material/shuffle:", key="other-examples"):
            seed = st.session_state["_examples_seed"] = seed + 1
    drawn = handful(view.index, source, EXAMPLES, seed=seed)
    if drawn:
        gallery(view, [row for row, _ in drawn], width=150)
    else:
        st.caption("None of the rows drawn has an image.")


@cached.shared(max_entries=4, show_spinner="Reading the rejected rows")
def _log(sources: Artifact) -> RejectLog:
    return read_rejects(sources.data / "rejects.jsonl")


def _rejects(view: View, source: SourceRange) -> None:
    reasons: dict[str, int] = source.facts["rejects"]
    st.subheader("Rows left out", anchor=False, help=glossary.REJECTED)
    if not reasons:
        st.caption(":green[:material/check_circle:] Every row became a sample.")
        return
    log = _log(view.chain.sources)
    reason = st.segmented_control(
        "Reason",
        ["", *reasons],
        default="",
        required=True,
        key=f"reason-{source.name}",
        format_func=lambda r: (
            f"{escape(_words(r))} ({numbers.whole(reasons[r] if r else sum(reasons.values()))})"
        ),
        label_visibility="collapsed",
    )
    lines = log.matching(source.name, reason or None)
    pages = max(1, -(-len(lines) // REJECTS_A_PAGE))
    page = st.pagination(pages, key=f"rejects-{source.name}-{reason}") if pages > 1 else 1
    shown = log.read(lines[(page - 1) * REJECTS_A_PAGE : page * REJECTS_A_PAGE])
    st.dataframe(
        [
            {
                "row": e["row"],
                "reason": _words(e["reason"]),
                "detail": e["detail"],
                "own id": e["own_id"],
            }
            for e in shown
        ],
        hide_index=True,
        column_config={
            "row": st.column_config.NumberColumn(width="small"),
            "detail": {"width": "large"},
        },
    )
    if not log.complete:
        st.caption(
            f"The list holds the first {numbers.short(MAX_LINES)} rows left out of all sources; counts are whole."
        )


def _words(reason: str) -> str:
    return "all" if not reason else reason.replace("_", " ")
