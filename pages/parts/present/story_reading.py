"""A story as its readers see it; page and HTML file draw the same blocks."""

from __future__ import annotations

import re

import pandas as pd
import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore.reading import Reading, open_reading
from emt_core.explore.report.content import (
    Content,
    Figure,
    Gallery,
    Item,
    Numbers,
    RenderedBlock,
    Table,
)
from emt_core.explore.report.report import KINDS, Kind, render_story, report_html, save_report
from emt_core.explore.report.story import Story
from emt_core.workspace.words import and_list
from pages.parts.cards import webp_uri
from pages.parts.empty import command_up_to
from pages.parts.plain import escape, shorten, show_problem
from pages.parts.view import View
from pages.parts.widgets import action, chart, metrics

WIDTH = 1040
CARD_TEXT = 130


def reading_of(view: View, story: Story) -> Reading:
    """What the story was saved with (its score and selection), else what the sidebar shows."""
    if story.score or story.select:
        return open_reading(view.workspace, view.recipe, score=story.score, select=story.select)
    return view


@st.cache_resource(max_entries=48, show_spinner="Drawing the story")
def _content(identity: tuple[str, ...], kind: str, *, _reading: Reading) -> Content:
    """A block's figures. The identity holds the keys of all that can enter them."""
    return KINDS[kind].build(_reading)


def _cached_content(kind: Kind, reading: Reading) -> Content:
    return _content(reading.identity, kind.name, _reading=reading)


def read(view: View, name: str, story: Story, reading: Reading) -> None:
    with st.container(horizontal_alignment="center"), st.container(width=WIDTH):
        _take_away(view, name, story, reading)
        st.title(escape(story.title), anchor=False)
        paragraphs(story.intro)
        if story.select:
            st.caption(f"Follows selection {escape(story.select.removeprefix('select.'))}.")
        for block in render_story(story, reading, _cached_content):
            _block(view, block)


def _take_away(view: View, name: str, story: Story, reading: Reading) -> None:
    """Buttons for the HTML file, which is made when it is asked for."""
    with st.container(horizontal=True, horizontal_alignment="right"):
        st.download_button(
            "Download as HTML",
            data=lambda: report_html(story, reading)[0],
            file_name=f"{reading.recipe}-{name}.html",
            mime="text/html",
            icon=":material/download:",
            on_click="ignore",
            help="One file that opens offline, in light and dark, and can be printed.",
        )
        if not view.workspace.read_only:
            action(
                "Save to the workspace",
                _save_file,
                story,
                reading,
                name,
                icon="save",
                help=f"As stories/{escape(reading.recipe)}/{escape(name)}.html.",
            )
    outcome = st.session_state.pop("_report_saved", None)
    if isinstance(outcome, EmtError):
        show_problem(outcome)
    elif outcome:
        st.success(f"Saved as {escape(outcome)}.", icon=":material/check:")


def _save_file(story: Story, reading: Reading, name: str) -> None:
    try:
        path = save_report(story, reading, name)
    except EmtError as error:
        st.session_state["_report_saved"] = error
    else:
        st.session_state["_report_saved"] = str(path.relative_to(reading.workspace.path))


def _block(view: View, block: RenderedBlock) -> None:
    if block.content is None:
        if not view.workspace.read_only:
            with st.container(border=True):
                st.markdown(
                    f"**{escape(block.heading)}**: run {escape(and_list(block.missing))} first."
                )
                st.caption("The HTML file leaves this block out until then.")
                st.code(command_up_to(view, block.missing[0]), language="bash")
        return
    st.header(escape(block.heading), anchor=False)
    paragraphs(block.caption)
    if block.content.sentences:
        st.markdown(escape(" ".join(block.content.sentences)))
    for place, item in enumerate(block.content.items):
        _item(item, f"story-{block.kind}-{place}")


def _item(item: Item, key: str) -> None:
    if isinstance(item, Numbers):
        metrics(*item.values, width=180)
        return
    st.markdown(f"**{escape(item.title)}**")
    if isinstance(item, Figure):
        chart(item.figure, key=key)
    elif isinstance(item, Table):
        frame = pd.DataFrame(item.rows, columns=list(item.columns))
        right = {
            name: st.column_config.TextColumn(alignment="right")
            for name in item.columns[item.text_columns :]
        }
        st.dataframe(frame, hide_index=True, column_config=right, height="content", key=key)
    elif isinstance(item, Gallery):
        with st.grid("auto", min_column_width=132, gap="small"):
            for picture in item.pictures:
                with st.container(border=True, gap="xsmall", height="stretch"):
                    if picture.image is None:
                        st.caption(":material/notes: text only")
                    else:
                        st.image(webp_uri(picture.image), width="stretch", alt="")
                    st.caption(escape(picture.note))
                    st.text(shorten(picture.text, CARD_TEXT) or "(no text)")


def paragraphs(text: str) -> None:
    """The user's text, literally; empty lines separate paragraphs."""
    for part in re.split(r"\n\s*\n", text):
        if part.strip():
            st.markdown(escape(part.strip()))
