"""Edit a story: its text and its blocks. The draft is kept in the session until it is saved."""

from __future__ import annotations

from typing import Any

import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore.report.report import KINDS, first_story
from emt_core.explore.report.story import (
    CAPTION_CHARS,
    HEADING_CHARS,
    Story,
    StoryBlock,
    delete_story,
    save_story,
    story_names,
)
from pages.parts.plain import escape, show_problem
from pages.parts.view import View
from pages.parts.widgets import action

DRAFT, OUTCOME = "_story_draft", "_story_outcome"


def edit(view: View, name: str, story: Story) -> None:
    scope = f"{view.workspace.path}|{view.recipe}|{name}"
    if st.session_state.get("_story_scope") != scope:
        st.session_state["_story_scope"] = scope
        _begin(story)
    draft: Story = st.session_state[DRAFT]
    _save_bar(view, name, draft)
    st.text_input(
        "Title",
        draft.title,
        max_chars=HEADING_CHARS,
        key=_key("title"),
        on_change=_set,
        args=("title", _key("title")),
    )
    st.text_area(
        "Introduction",
        draft.intro,
        max_chars=CAPTION_CHARS,
        height=110,
        key=_key("intro"),
        on_change=_set,
        args=("intro", _key("intro")),
        help="Plain text; an empty line starts a paragraph.",
    )
    for place, block in enumerate(draft.blocks):
        _block(block, place, len(draft.blocks))


def _begin(story: Story) -> None:
    """Start a draft: the story's blocks, then all other blocks switched off."""
    known = [block for block in story.blocks if block.kind in KINDS]
    present = {block.kind for block in known}
    absent = [StoryBlock(kind=kind, shown=False) for kind in KINDS if kind not in present]
    st.session_state[DRAFT] = story.model_copy(update={"blocks": (*known, *absent)})
    # Widgets of an earlier draft keep their values under their keys, so a new draft has new keys.
    st.session_state["_story_turn"] = st.session_state.get("_story_turn", 0) + 1


def _key(*parts: str) -> str:
    return "-".join(["story", str(st.session_state.get("_story_turn", 0)), *parts])


def _block(block: StoryBlock, place: int, count: int) -> None:
    kind = KINDS[block.kind]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            heading = _key(block.kind, "heading")
            st.text_input(
                f"Heading of “{kind.heading}”",
                block.heading,
                placeholder=kind.heading,
                max_chars=HEADING_CHARS,
                key=heading,
                on_change=_set_block,
                args=(block.kind, "heading", heading),
                help=kind.shows,
            )
            for label, icon, by in (("Up", "arrow_upward", -1), ("Down", "arrow_downward", 1)):
                action(
                    label,
                    _move,
                    place,
                    by,
                    icon=icon,
                    key=_key(block.kind, label),
                    disabled=not 0 <= place + by < count,
                    width="content",
                )
            shown = _key(block.kind, "shown")
            st.toggle(
                "Shown",
                block.shown,
                key=shown,
                on_change=_set_block,
                args=(block.kind, "shown", shown),
            )
        if block.shown:
            caption = _key(block.kind, "caption")
            st.text_area(
                "Text",
                block.caption,
                max_chars=CAPTION_CHARS,
                height=90,
                key=caption,
                on_change=_set_block,
                args=(block.kind, "caption", caption),
                placeholder="Optional. Sentences with measured numbers are added automatically.",
            )


def _save_bar(view: View, name: str, draft: Story) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="bottom"):
        wanted = st.text_input(
            "Name", name, max_chars=64, key=_key("name"), help="Letters, digits, '-' and '_'."
        )
        action("Save story", _save, view, wanted.strip(), draft, icon="save", type="primary")
        action("Start over", _begin, first_story(), icon="restart_alt")
        if name in story_names(view.workspace, view.recipe):
            action("Delete", _delete, view, name, icon="delete")
    st.caption("A saved story stays tied to the current score and selection.")
    outcome = st.session_state.pop(OUTCOME, None)
    if isinstance(outcome, EmtError):
        show_problem(outcome)
    elif outcome:
        st.success(escape(outcome), icon=":material/check:")


def _save(view: View, name: str, draft: Story) -> None:
    story = draft.model_copy(update={"score": view.score, "select": view.select})
    try:
        save_story(view.workspace, view.recipe, name, story)
    except EmtError as error:
        st.session_state[OUTCOME] = error
    else:
        st.session_state["story"] = name
        st.session_state[OUTCOME] = f"Saved story {name}."


def _delete(view: View, name: str) -> None:
    try:
        delete_story(view.workspace, view.recipe, name)
    except EmtError as error:
        st.session_state[OUTCOME] = error
    else:
        st.session_state.pop("story", None)
        st.session_state[OUTCOME] = f"Deleted story {name}."


def _set(field: str, key: str) -> None:
    draft: Story = st.session_state[DRAFT]
    st.session_state[DRAFT] = draft.model_copy(update={field: st.session_state[key]})


def _set_block(kind: str, field: str, key: str) -> None:
    draft: Story = st.session_state[DRAFT]
    value: Any = st.session_state[key]
    blocks = tuple(
        b.model_copy(update={field: value}) if b.kind == kind else b for b in draft.blocks
    )
    st.session_state[DRAFT] = draft.model_copy(update={"blocks": blocks})


def _move(place: int, by: int) -> None:
    draft: Story = st.session_state[DRAFT]
    blocks = list(draft.blocks)
    blocks[place], blocks[place + by] = blocks[place + by], blocks[place]
    st.session_state[DRAFT] = draft.model_copy(update={"blocks": tuple(blocks)})
