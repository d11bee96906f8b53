"""Add or change a source: a form, a check of its path, and a preview of its first rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from emt_core.data.preflight import SourceReport
from emt_core.errors import EmtError
from emt_core.explore import numbers
from emt_core.explore.tables.source_look import ROWS, Look, look
from emt_core.explore.tables.source_suggestions import suggestions
from emt_core.recipe.form import (
    Setting,
    build_source,
    format_help,
    formats,
    source_entry,
    source_settings,
)
from emt_core.recipe.recipe import Recipe
from emt_core.recipe.sources import SourceConfig
from emt_core.run.edits import put_source
from emt_core.workspace.artifact import canonical_json
from pages.parts import glossary
from pages.parts.plain import attempt, escape, show_kept_problem, show_problem
from pages.parts.view import View
from pages.parts.widgets import action, choice, metrics, side_by_side

OWN_LOCATE = ("hf", "lerobot", "parquet", "webdataset")
"""Formats whose path may be a name on the Hub or a pattern."""

LIMITS = ("limit", "max_pixels")


def editor(
    view: View, recipe: Recipe, label: str, wanted: tuple[SourceConfig, ...], replaces: str | None
) -> None:
    st.query_params["edit"] = replaces or "new"
    before = next((source for source in wanted if source.name == replaces), None)
    with side_by_side(gap="small"):
        action("Back", _leave, icon="arrow_back", key="leave-editor", shortcut="Escape")
        st.header(f"Edit {before.name}" if before else "Add a source", anchor=False)
    if replaces is not None and before is None:
        st.caption("The recipe has no source of this name.")
        return
    st.caption("Saved to the workspace's copy of the recipe; your recipe file is not changed.")
    form_at, look_at = st.columns([5, 4], gap="large")
    with form_at:
        format_, values = _form(recipe.base, before)
        source = _checked(format_, values)
    with look_at:
        _look(view, recipe.base, source)
    with form_at:
        _save(view, label, source, replaces)


def _leave() -> None:
    st.query_params.pop("edit", None)


def _form(base: Path, before: SourceConfig | None) -> tuple[str, dict[str, Any]]:
    known = list(formats())
    token = before.name if before else "+"
    format_ = st.selectbox(
        "Format",
        known,
        index=known.index(before.format) if before else 0,
        key=f"src-{token}-format",
    )
    st.caption(format_help(format_))
    held = before.model_dump() if before and before.format == format_ else {}
    fields = {field.name: field for field in source_settings(format_)}
    values: dict[str, Any] = {}

    def ask(name: str, options: list[str] | None = None) -> None:
        field = fields[name]
        values[name] = _widget(
            field, f"src-{token}-{format_}-{name}", held.get(name, field.default), options or []
        )

    left, right = st.columns(2)
    with left:
        ask("name")
    with right:
        ask("role")
    ask("path")
    data = _path(base, values["path"], format_)
    offered = suggestions(format_, data) if data is not None else {}
    own = [name for name in fields if name not in ("name", "role", "path", *LIMITS)]
    with st.grid(2, min_column_width=200, gap="small"):
        for name in own:
            with st.container():
                ask(name, offered.get(name))
    with st.expander("Limits", icon=":material/speed:"), st.grid(2, min_column_width=200):
        for name in LIMITS:
            with st.container():
                ask(name)
    return format_, values


def _widget(field: Setting, key: str, value: Any, options: list[str]) -> Any:
    label = field.label + ("" if field.required else " (optional)" if field.default is None else "")
    if field.kind == "choice":
        first = value or field.options[0]
        return choice(label, field.options, key=key, default=first, in_url=False, help=field.help)
    if field.kind == "whole":
        return st.number_input(label, min_value=1, value=value, step=1, key=key, help=field.help)
    if field.kind == "flag":
        return st.toggle(label, value=bool(value), key=key, help=field.help)
    if field.kind == "list" and options:
        known = [*options, *(item for item in value or () if item not in options)]
        return st.multiselect(
            label, known, value, key=key, help=field.help, accept_new_options=True
        )
    if field.kind == "list":
        return st.text_input(
            label, ", ".join(value or ()), key=key, help=field.help + " Separate with commas."
        )
    if options:
        every = options if value in (None, "", *options) else [value, *options]
        place = every.index(value) if value in every else None
        if place is None and len(options) == 1 and (field.required or field.name == "camera"):
            place = 0
        return st.selectbox(
            label, every, index=place, key=key, help=field.help, accept_new_options=True
        )
    return st.text_input(label, value or "", key=key, help=field.help)


def _path(base: Path, text: str, format_: str) -> Path | None:
    """Say what is at the path; returns the path if it exists."""
    if not text or not text.strip():
        st.text(f"Relative to {base}")
        return None
    data = base / Path(text.strip()).expanduser()
    try:
        if data.is_dir():
            st.caption(":green[:material/check_circle:] folder found")
            return data
        if data.exists():
            size = numbers.size(data.stat().st_size)
            st.caption(f":green[:material/check_circle:] file found ({size})")
            return data
    except (OSError, ValueError):
        pass
    if format_ in OWN_LOCATE:
        words = "no such file or folder; used as a Hub name or a pattern"
        st.caption(f":gray[:material/help:] {words}")
    else:
        st.caption(":red[:material/error:] no such file or folder")
        st.text(f"Looked for {data}")
    return None


def _checked(format_: str, values: Mapping[str, Any]) -> SourceConfig | None:
    try:
        return build_source(format_, values)
    except EmtError as error:
        st.session_state["_source_problem"] = error
        return None


def _look(view: View, base: Path, source: SourceConfig | None) -> None:
    st.subheader("Preview", anchor=False, help=glossary.PREFLIGHT)
    rows = st.select_slider("Rows", [50, ROWS, 1000, 5000], value=ROWS, key="look-rows")
    problem = st.session_state.pop("_source_problem", None)
    asked = st.button(
        f"Preview the first {numbers.whole(rows)} rows",
        icon=":material/visibility:",
        disabled=source is None,
        key="look",
        help=problem.what if problem else None,
    )
    if source is None:
        st.text(_sentence(problem.what) if problem else "Fill in the fields first.")
        return
    if asked:
        with st.spinner("Reading the first rows", show_time=True):
            try:
                view.workspace.check_writable()
                found: Look | EmtError = look(source, base, rows=rows)
            except EmtError as error:
                found = error
        st.session_state["_previewed"] = (_name(source), found)
    found = _looked(source)
    if isinstance(found, EmtError):
        show_problem(found)
    elif found is not None:
        _report(found)
    else:
        st.caption("Counts, rejected rows and some images appear here. Then you can save.")


def _sentence(what: str) -> str:
    """`name is needed` -> `Name is needed. Preview the first rows before saving.`"""
    return f"{what[:1].upper()}{what[1:]}. Preview the first rows before saving."


def _name(source: SourceConfig) -> str:
    return canonical_json(source_entry(source))


def _looked(source: SourceConfig | None) -> Look | EmtError | None:
    """The preview of exactly these settings, if there was one."""
    name, found = st.session_state.get("_previewed", ("", None))
    return found if source is not None and name == _name(source) else None


def _report(found: Look) -> None:
    report = found.report
    if report.error:
        st.markdown(":red[:material/error:] **This source cannot be read**")
        st.text(report.error)
        return
    more = "" if report.complete else "+"
    metrics(
        ("Rows seen", f"{numbers.whole(report.seen)}{more}"),
        ("Kept", numbers.whole(report.kept)),
        ("Rejected", numbers.whole(report.rejects.total()), glossary.REJECTED),
        width=100,
    )
    st.text(_facts(report))
    if found.sheet is not None:
        st.image(found.sheet, width="stretch", alt="")
    for reason, count in report.rejects.most_common():
        title = f"{escape(reason.replace('_', ' '))}: {numbers.whole(count)}"
        with st.expander(title, icon=":material/block:"):
            st.text("\n".join(report.examples[reason]))
    if not report.kept:
        words = "No usable rows: this source would be rejected."
        st.markdown(f":orange[:material/warning:] {words}")


def _facts(report: SourceReport) -> str:
    sizes = [f"{s[0]} x {s[1]}" for s in (report.smallest, report.largest) if s]
    parts = [
        f"{numbers.whole(report.episodes)} episodes" if report.episodes else "",
        f"{numbers.whole(report.text_only)} text only" if report.text_only else "",
        f"{numbers.whole(report.multi_image)} with several images" if report.multi_image else "",
        f"images of {' to '.join(dict.fromkeys(sizes))} pixels" if sizes else "",
        f"average text length {report.text_chars / report.kept:,.0f} characters"
        if report.kept
        else "",
    ]
    return ", ".join(part for part in parts if part)


def _save(view: View, label: str, source: SourceConfig | None, replaces: str | None) -> None:
    found = _looked(source)
    good = isinstance(found, Look) and not found.report.error and found.report.kept > 0
    with side_by_side():
        action(
            "Save" if found is None or good else "Save anyway",
            _keep,
            view,
            label,
            source,
            replaces,
            icon="save",
            type="primary",
            disabled=found is None,
            key="save-source",
            help="Preview the first rows before saving." if found is None else None,
        )
        action("Cancel", _leave, key="cancel-editor")
    show_kept_problem("source form")


def _keep(view: View, label: str, source: SourceConfig, replaces: str | None) -> None:
    kept = attempt(
        "source form",
        put_source,
        view.workspace,
        view.recipe,
        source,
        label=label,
        replaces=replaces,
    )
    if not kept:
        return
    st.session_state.pop("_previewed", None)
    st.query_params.pop("edit", None)
    if replaces is not None and source.name != replaces:
        st.query_params.pop("source", None)
