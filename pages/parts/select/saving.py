"""Save a cut as a selection with a name and a note; the table of saved selections."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore import numbers
from emt_core.explore.tables.measured import of_selection
from emt_core.explore.tables.select import Cut
from emt_core.run.edits import add_selection
from emt_core.run.recipes import NOTE_CHARS, notes
from emt_core.selection import Composition
from emt_core.workspace.lineage import labels_of
from pages.parts import glossary
from pages.parts.plain import escape, show_kept_problem, show_problem
from pages.parts.router import go_to
from pages.parts.runs import start
from pages.parts.sidebar import short_label
from pages.parts.view import View
from pages.parts.widgets import action


def save(view: View, cut: Cut, made: Composition, excluded: np.ndarray) -> None:
    """A form. excluded: int64 pool rows whose ids go into the entry's `exclude`."""
    if view.workspace.read_only:
        return
    st.subheader("Save as a selection", anchor=False)
    with st.form("save", border=True):
        name_at, note_at, button_at = st.columns([3, 5, 2], vertical_alignment="bottom")
        name = name_at.text_input(
            "Name",
            placeholder="for example near-quarter",
            max_chars=40,
            help="Letters, digits, '-' and '_'.",
        )
        note = note_at.text_input(
            "Note", placeholder="why this cut (optional)", max_chars=NOTE_CHARS
        )
        pressed = button_at.form_submit_button(
            "Save and run",
            type="primary",
            icon=":material/save:",
            width="stretch",
            disabled=not made.total,
        )
        caps = len(cut.caps_source) + len(cut.caps_category)
        facts = [f"Top **{numbers.whole(cut.k)}** by score, {numbers.whole(made.total)} selected"]
        if caps:
            facts.append(numbers.counted(caps, "cap"))
        if len(excluded):
            facts.append(f"{numbers.counted(len(excluded), 'flagged sample')} excluded")
        recipe = f"the workspace's copy of recipe {escape(view.recipe)}"
        st.markdown(f"{', '.join(facts)}. :gray[Adds one entry to {recipe} and runs it.]")
    if pressed:
        config = cut.config().model_dump(exclude_defaults=True, mode="json")
        if len(excluded):
            config["exclude"] = list(view.index.packed_ids(excluded))
        try:
            label = add_selection(
                view.workspace, view.recipe, name.strip(), config, view.chain, view.done, note=note
            )
        except EmtError as error:
            show_problem(error)
            return
        start(view, label, place="new selection", title=f"Selection {name.strip()}")
        st.rerun()
    show_kept_problem("new selection")


def saved(view: View) -> None:
    """A table of the recipe's finished selections with their figures and notes."""
    labels = labels_of(view.done, "select")[::-1]
    if not labels:
        return
    written = notes(view.workspace, view.recipe)
    st.subheader("Selections", anchor=False)
    rows = [_facts(label, view.done[label].manifest, written.get(label, "")) for label in labels]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "note": st.column_config.TextColumn(width="small"),
            "selected": st.column_config.NumberColumn(format="localized"),
            "excluded": st.column_config.NumberColumn(
                format="localized", help="Flagged samples that were excluded."
            ),
            "diversity": st.column_config.TextColumn(help=glossary.DIVERSITY),
            "MMD² to robot": st.column_config.TextColumn(help=glossary.MMD),
            "lowest score": st.column_config.NumberColumn(
                format="%.2f", help=glossary.LOWEST_SCORE
            ),
            "embodied": st.column_config.TextColumn(help=glossary.EMBODIED),
            "finished": st.column_config.DatetimeColumn(format="D MMM, HH:mm"),
        },
    )
    with st.container(horizontal=True):
        for label in labels[:6]:
            pressed = action(
                f"Browse {escape(short_label(label))}",
                _show,
                label,
                icon="photo_library",
                key=f"browse-{label}",
                type="tertiary",
            )
            if pressed:
                go_to("browse")


def _show(label: str) -> None:
    """Show this selection: a link's parameters do not reach a select box that is already drawn."""
    st.session_state["selection"] = label


def _facts(label: str, manifest: dict, note: str) -> dict:
    metrics = manifest["metrics"]
    found = of_selection(metrics, "after")
    return {
        "name": short_label(label),
        "note": note,
        "strategy": manifest["config"]["strategy"],
        "selected": metrics["selected"],
        "excluded": metrics["reasons"].get("excluded", 0),
        "lowest score": metrics["cut_logit"],
        "embodied": numbers.share(metrics["embodied_share"]["after"]),
        "diversity": found["diversity"].text,
        "MMD² to robot": found["mmd2_to_robot"].text,
        "finished": pd.Timestamp(manifest["finished"], unit="s"),
    }
