"""Flags and notes on samples: badges, and controls where the workspace may be written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.curation.flags import FLAGS, NOTE_CHARS
from pages.parts import glossary
from pages.parts.plain import attempt, escape, show_kept_problem
from pages.parts.view import View
from pages.parts.widgets import action, side_by_side

ICON = {"keep": "thumb_up", "doubtful": "help", "wrong": "error", "exclude": "block"}
COLOR = {"keep": "green", "doubtful": "blue", "wrong": "orange", "exclude": "red"}
KEY = {"keep": "K", "doubtful": "D", "wrong": "W", "exclude": "X"}


def badge(flag: str) -> str:
    """The flag as Markdown; "" for no flag."""
    return f":{COLOR[flag]}-badge[:material/{ICON[flag]}: {flag}]" if flag else ""


def label(flag: str) -> str:
    return f":material/{ICON[flag]}: {flag}" if flag in ICON else flag


def put(view: View, rows: Sequence[int] | np.ndarray, flag: str, what: str) -> None:
    """Set a flag from a button and remember it for "undo"; an error is kept for the page."""
    attempt("flag", _put, view, rows, flag, what)


def _put(view: View, rows: Sequence[int] | np.ndarray, flag: str, what: str) -> None:
    number = view.flag_book.set(rows, flag, what=what)
    st.session_state["_last_flag"] = (view.chain.sources.key, number, len(rows), flag, what)


def card_control(view: View, row: int, place: str) -> None:
    """One small row of icons below a card."""
    key = f"flag-{place}-{row}"
    st.session_state[key] = FLAGS[view.flags.codes[row]] or None
    st.segmented_control(
        "Flag",
        FLAGS[1:],
        key=key,
        format_func=lambda flag: f":material/{ICON[flag]}:",
        label_visibility="collapsed",
        on_change=_from_card,
        args=(view, row, key),
    )


def _from_card(view: View, row: int, key: str) -> None:
    put(view, [row], st.session_state[key] or "", "one sample")


def buttons(view: View, row: int) -> None:
    """Flag buttons with their keys, the one that holds filled; and the note."""
    now = FLAGS[view.flags.codes[row]]
    note = view.flags.notes.get(row, "")
    if view.workspace.read_only:
        if now:
            st.markdown(badge(now))
        if note:
            st.caption("Note")
            st.text(note)
        return
    with st.container(horizontal=True, gap="small"):
        for flag in FLAGS[1:]:
            action(
                flag.capitalize(),
                put,
                view,
                [row],
                "" if flag == now else flag,
                "one sample",
                icon=ICON[flag],
                key=f"set-{flag}",
                type="primary" if flag == now else "secondary",
                shortcut=KEY[flag],
                help=glossary.FLAGS[flag] + (" Press again to clear." if flag == now else ""),
            )
    key = f"note-{view.chain.sources.key}-{row}"
    st.text_area(
        "Note",
        note,
        key=key,
        height=80,
        max_chars=NOTE_CHARS,
        placeholder="Anything odd or useful about this sample; kept in the workspace.",
        on_change=_write_note,
        args=(view, row, key),
    )
    show_kept_problem("flag")


def _write_note(view: View, row: int, key: str) -> None:
    attempt("flag", view.flag_book.note, row, st.session_state[key])


def bulk(view: View, rows: np.ndarray, *, what: str, title: str, key: str) -> None:
    """A popover that flags all of these rows."""
    if view.workspace.read_only:
        return
    with st.popover(title, icon=":material/flag:", disabled=not len(rows)):
        st.markdown(f"Flag all **{numbers.counted(len(rows), 'sample')}**:")
        for flag in (*FLAGS[1:], ""):
            st.button(
                f"{flag.capitalize()} all" if flag else "Clear flags",
                icon=f":material/{ICON[flag]}:" if flag else ":material/backspace:",
                key=f"bulk-{key}-{flag or 'none'}",
                width="stretch",
                on_click=put,
                args=(view, rows, flag, what),
                help=glossary.FLAGS.get(flag),
            )


def last_change(view: View, place: str) -> None:
    """What this session flagged last, and a button to undo it."""
    show_kept_problem("flag")
    last = st.session_state.get("_last_flag")
    if last is None or view.workspace.read_only or last[0] != view.chain.sources.key:
        return
    _, number, rows, flag, what = last
    with side_by_side(gap="small"):
        words = f"flagged **{flag}**" if flag else "flags removed"
        st.caption(
            f":material/done: {numbers.counted(rows, 'sample')}: {words} ({escape(what)}).",
            width="content",
        )
        action("Undo", _undo, view, number, icon="undo", key=f"undo-{place}", type="tertiary")


def _undo(view: View, number: int) -> None:
    if attempt("flag", view.flag_book.undo, number):
        st.session_state.pop("_last_flag", None)
