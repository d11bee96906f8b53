"""A form for an instance's settings: replace them, or add a variant that can be compared."""

from __future__ import annotations

from typing import Any

import streamlit as st
import yaml

from emt_core.errors import EmtError
from emt_core.explore.tables.flow import base_label
from emt_core.recipe.form import Setting, settings_of
from emt_core.run.edits import change_settings
from pages.parts.plain import escape, show_problem
from pages.parts.runs import start
from pages.parts.states import plan_of
from pages.parts.view import View

IN_PLACE = "replace these settings"
BESIDE = "add as a new variant"


def change_dialog(view: View, label: str) -> None:
    """Open the form for one instance of the view's recipe."""
    st.dialog(f"Settings of {base_label(label)}", width="large", icon=":material/tune:")(_form)(
        view, label
    )


def _form(view: View, label: str) -> None:
    assert view.recipe_file is not None and view.recipe
    base = base_label(label)
    if base != label:
        st.caption(
            "This instance is part of an experiment: a change applies to every arm that does not "
            "set the value itself."
        )
    settings = settings_of(plan_of(view.recipe_file).get(label).config)
    with st.form("settings", border=False):
        with st.container(height=380, border=True):
            given = {setting.name: _field(setting) for setting in settings}
        how = st.radio(
            "Save as",
            [IN_PLACE, BESIDE],
            horizontal=True,
            help="Results made before are kept either way.",
        )
        name = st.text_input("Variant name", max_chars=40, placeholder="for example short")
        with st.container(horizontal=True):
            run = st.form_submit_button(
                "Save and run", type="primary", icon=":material/play_arrow:"
            )
            save = st.form_submit_button("Save", icon=":material/save:")
    if not run and not save:
        return
    try:
        changed = {s.name: value for s in settings if (value := _read(s, given[s.name])) != s.value}
        if how == BESIDE and not name.strip():
            raise EmtError(
                "the variant needs a name", remedy="enter one, or replace these settings"
            )
        if not changed and how == IN_PLACE:
            raise EmtError("nothing was changed", remedy="change a setting, or close this dialog")
        target = change_settings(
            view.workspace,
            view.recipe,
            base,
            changed,
            beside=name.strip() if how == BESIDE else None,
        )
    except EmtError as error:
        show_problem(error)
        return
    st.session_state["stage"] = target if base == label or how == BESIDE else label
    if run:
        start(view, target, place="stage", title=f"{view.recipe}: up to {target}")
    st.rerun()


def _field(setting: Setting) -> Any:
    """A widget for the setting; YAML for what is no number, flag, choice or text."""
    label, key = escape(setting.name), f"setting-{setting.name}"
    words = setting.help + (
        "" if setting.value == setting.default else f" Default: {setting.default}."
    )
    value, help_text = setting.value, escape(words)
    if setting.kind == "flag":
        return st.toggle(label, value=bool(value), key=key, help=help_text)
    if setting.kind == "choice":
        options = (*([None] if setting.optional else []), *setting.options)
        return st.selectbox(label, options, index=options.index(value), key=key, help=help_text)
    if setting.kind == "whole":
        return st.number_input(label, value=value, step=1, key=key, help=help_text)
    if setting.kind == "number":
        return st.number_input(label, value=value, format="%g", key=key, help=help_text)
    if setting.kind == "text":
        return st.text_input(label, value=value or "", key=key, help=help_text)
    return st.text_input(label, value=_yaml(value), key=key, help=help_text + " (YAML)")


def _yaml(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000)
        .strip()
        .removesuffix("\n...")
        .strip()
    )


def _read(setting: Setting, given: Any) -> Any:
    if setting.kind in ("yaml", "list"):
        try:
            return yaml.safe_load(given)
        except yaml.YAMLError as error:
            raise EmtError(
                f"{setting.name} is not valid YAML", where=given, remedy=setting.help
            ) from error
    if setting.kind == "text" and setting.optional and not given:
        return None
    return given
