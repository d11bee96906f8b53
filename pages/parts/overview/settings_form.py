"""Change an instance's settings: in place, or in a copy beside it, so that the two can be compared."""

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

IN_PLACE, BESIDE = "Change it", "Keep it and add another beside it"


def change_dialog(view: View, label: str) -> None:
    """Open the form for one instance of the view's recipe."""
    st.dialog(f"Settings of {base_label(label)}", width="large", icon=":material/tune:")(_form)(
        view, label
    )


def _form(view: View, label: str) -> None:
    assert view.recipe_file is not None and view.recipe is not None
    base = base_label(label)
    if base != label:
        st.caption(
            "It belongs to an experiment: what is changed here changes for every arm that does not set it."
        )
    settings = settings_of(plan_of(view.recipe_file).get(label).config)
    with st.form("settings", border=False):
        with st.container(height=380, border=True):
            given = {setting.name: _field(setting) for setting in settings}
        how = st.radio(
            "What to do",
            [IN_PLACE, BESIDE],
            horizontal=True,
            help="Artifacts made before stay either way.",
        )
        name = st.text_input("Name of the other", max_chars=40, placeholder="for example short")
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
                "the other one needs a name", remedy="give it one, or change this one in place"
            )
        if not changed and how == IN_PLACE:
            raise EmtError("nothing was changed", remedy="change a setting, or close this window")
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
        start(view, target, title=f"{view.recipe}: up to {target}")
    st.rerun()


def _field(setting: Setting) -> Any:
    """The widget that fits; whatever is neither number, flag, choice nor text is written as YAML."""
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
