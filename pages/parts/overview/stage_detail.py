"""One instance in full: results, parents, settings, log, and buttons to run or change it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from emt_core.explore import numbers
from emt_core.explore.tables.flow import folds_of
from emt_core.explore.tables.headline import headline
from emt_core.flow import STAGES
from emt_core.recipe.form import settings_of
from emt_core.run import jobs
from emt_core.run.edits import add_stage
from emt_core.run.status import MEANING, InstanceStatus
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.progress import duration
from pages.parts.overview.settings_form import change_dialog
from pages.parts.plain import attempt, escape, show_kept_problem
from pages.parts.router import link_to
from pages.parts.runs import start
from pages.parts.states import ICON, plan_of
from pages.parts.view import View
from pages.parts.widgets import action, side_by_side

STAGE_PAGES = {
    "sources": ("sources",),
    "embed": ("map",),
    "category": ("scores",),
    "gap": ("gap", "map"),
    "estimator": ("estimator",),
    "measure": ("ablation", "scores"),
    "score": ("scores",),
    "trust": ("trust",),
    "select": ("select", "browse"),
    "midtrain": ("train",),
    "probe": ("probe",),
    "finetune": ("train",),
    "retain": ("train", "probe"),
    "evaluate": ("results",),
}
"""The pages that show a stage's results."""

LOG_LINES = 300


def detail(view: View, states: list[InstanceStatus], chosen: str) -> None:
    """`chosen`: a box of the picture, or the label of one instance."""
    folds = {fold.id: fold for fold in folds_of(states)}
    labels = {state.label: state for state in states}
    with st.container(border=True):
        fold = folds.get(chosen)
        if chosen in labels and (fold is None or len(fold.members) == 1):
            _instance(view, labels[chosen], states)
        elif fold is not None and fold.members:
            _several(view, fold.id, list(fold.members))
        elif fold is not None:
            _absent(view, fold.stage)


def _instance(view: View, state: InstanceStatus, states: list[InstanceStatus]) -> None:
    left, right = st.columns([5, 4], vertical_alignment="center")
    with left, st.container(gap="xsmall"):
        st.subheader(f"{ICON[state.state]} {escape(state.label)}", anchor=False)
        st.caption(escape(STAGES[state.stage].sentence))
    with (
        right,
        side_by_side(horizontal_alignment="right", gap="small"),
    ):
        _buttons(view, state)
    show_kept_problem("stage")
    artifact = view.workspace.find(state.stage, state.stale_key or state.key)
    _facts(state, artifact)
    if state.message:
        st.text(state.message)
    _neighbors(state, states)
    draw = {"Settings": _settings, "Metrics": _metrics, "Made by": _made_by, "Log": _log}
    tabs = st.tabs(list(draw), key=f"tabs-{state.label}", on_change="rerun")
    for name, tab in zip(draw, tabs, strict=True):
        if tab.open:
            with tab:
                draw[name](view, state, artifact)


def _buttons(view: View, state: InstanceStatus) -> None:
    for name in STAGE_PAGES.get(state.stage, ()) if state.state == "done" else ():
        link_to(name)
    if view.workspace.read_only:
        return
    if state.stage != "sources":
        action(
            "Change settings", _open_dialog, state.label, icon="tune", key=f"change-{state.label}"
        )
    if state.state not in ("done", "running"):
        first = not state.parents
        action(
            "Run" if first else f"Run up to {escape(state.label)}",
            start,
            view,
            state.label,
            icon="play_arrow",
            key=f"run-up-to-{state.label}",
            type="primary",
            kwargs={"place": "stage", "title": f"{view.recipe}: up to {state.label}"},
            help="Runs this stage and the missing stages before it.",
        )
    if st.session_state.pop("_change", None) == state.label:
        change_dialog(view, state.label)


def _open_dialog(label: str) -> None:
    st.session_state["_change"] = label


def _facts(state: InstanceStatus, artifact: Artifact | None) -> None:
    meaning = MEANING[state.state]
    facts = [f"**{state.state}**", *([escape(meaning)] if meaning != state.state else [])]
    st.caption(" · ".join(facts) + (escape(f": {state.why}") if state.why else ""))
    if artifact is None:
        return
    manifest = artifact.manifest
    memory = f"{numbers.whole(manifest['peak_memory_mb'])} MB"
    figures = [
        ("Rows", numbers.whole(manifest["rows"]), None),
        ("Time", _time(manifest["seconds"]), "Summed over interrupted runs."),
        ("Peak memory", memory, "Worker processes included."),
        ("Result", headline(state.stage, manifest["metrics"]), None),
        ("Key", artifact.key[:8], f"Its folder: `{state.stage}/{artifact.key}`."),
    ]
    with st.container(horizontal=True, gap="large"):
        for label, value, help_text in figures:
            if value:
                st.metric(label, value, help=help_text, width="content")


def _neighbors(state: InstanceStatus, states: list[InstanceStatus]) -> None:
    feeds = [other.label for other in states if state.label in other.parents]
    with side_by_side(gap="small"):
        for words, labels in (("Made from", state.parents), ("Feeds", feeds)):
            if labels:
                st.caption(words, width="content")
            for label in labels[:8]:
                action(
                    escape(label),
                    go,
                    label,
                    key=f"go-{words}-{state.label}-{label}",
                    type="tertiary",
                )
            if len(labels) > 8:
                st.caption(f"and {len(labels) - 8} more")


def go(label: str) -> None:
    """Show another instance."""
    st.session_state["stage"] = label


def _settings(view: View, state: InstanceStatus, artifact: Artifact | None) -> None:
    assert view.recipe_file is not None
    config = plan_of(view.recipe_file).get(state.label).config
    if state.stage == "sources":
        rows = [
            {"source": s.name, "role": s.role, "format": s.format, "path": s.path, "limit": s.limit}
            for s in config.sources  # type: ignore[attr-defined]
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True)
        return
    made_with = artifact.config if artifact is not None and state.state == "stale" else {}
    rows = []
    for setting in settings_of(config):
        row = {"setting": setting.name, "value": _text(setting.value)}
        if made_with:
            row["made with"] = _text(made_with.get(setting.name, setting.default))
        rows.append(row | {"default": _text(setting.default), "what it does": setting.help})
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={"what it does": st.column_config.TextColumn(width="large")},
        height=min(38 + 35 * len(rows), 420),
    )


def _metrics(view: View, state: InstanceStatus, artifact: Artifact | None) -> None:
    if artifact is None:
        st.caption("Metrics appear once this stage has run.")
        return
    rows = [{"metric": name, "value": value} for name, value in flat(artifact.metrics)]
    st.dataframe(pd.DataFrame(rows), hide_index=True, height=min(38 + 35 * max(len(rows), 1), 420))


def _made_by(view: View, state: InstanceStatus, artifact: Artifact | None) -> None:
    if artifact is None:
        st.caption("Versions appear once this stage has run.")
        return
    manifest = artifact.manifest
    finished = pd.Timestamp(manifest["finished"], unit="s")
    rows = [
        ("finished", finished.strftime("%Y-%m-%d %H:%M:%S UTC")),
        ("recipe", manifest["recipe"]),
        ("names", ", ".join(manifest["labels"])),
        ("seed", _text(manifest["seed"])),
        ("stage version", str(manifest["version"])),
        *((f"from {stage}", key) for stage, key in manifest["parents"].items()),
        *((name, _text(found)) for name, found in manifest["versions"].items()),
    ]
    st.dataframe(pd.DataFrame(rows, columns=["", "value"]), hide_index=True)
    st.caption("Folder")
    st.code(str(artifact.path), language=None, wrap_lines=True)


def _log(view: View, state: InstanceStatus, artifact: Artifact | None) -> None:
    job = jobs.last_job_of(view.workspace, state.stage, state.stale_key or state.key)
    if job is None:
        st.caption("No log: this was run outside this workspace, or its job was removed.")
        return
    st.caption(f"{escape(job.asked['title'])}, {job.state}, `{job.id}`")
    with st.container(height=300, border=False):
        st.code(job.log_tail(LOG_LINES) or "No output yet.", language=None, wrap_lines=True)


def _several(view: View, fold: str, members: list[InstanceStatus]) -> None:
    st.subheader(escape(fold.removesuffix("@")), anchor=False)
    done = sum(member.state == "done" for member in members)
    st.caption(
        f"{numbers.counted(len(members), 'instance')}, {done} done. Select a row for details."
    )
    rows = []
    for member in members:
        artifact = view.workspace.find(member.stage, member.key) if member.state == "done" else None
        rows.append(
            {
                "instance": member.label,
                "state": member.state,
                "rows": member.rows,
                "time": _time(member.seconds) if member.seconds is not None else "",
                "result": headline(member.stage, artifact.metrics) if artifact else "",
                "key": member.key[:8],
            }
        )
    event = st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"several-{fold}",
    )
    chosen = event["selection"]["rows"]
    if chosen:
        go(members[chosen[0]].label)
        st.rerun()


def _absent(view: View, stage: str) -> None:
    st.subheader(f"{ICON['absent']} {escape(stage)}", anchor=False)
    st.caption(escape(STAGES[stage].sentence))
    st.markdown("The recipe does not have this stage. Add it with defaults or your own settings:")
    st.code(f"{stage}: {{}}", language="yaml")
    if not view.workspace.read_only and view.recipe:
        action(
            f"Add {escape(stage)} to the recipe",
            attempt,
            "stage",
            add_stage,
            view.workspace,
            view.recipe,
            stage,
            icon="add",
            key=f"add-{stage}",
        )
        show_kept_problem("stage")


def flat(metrics: Any, prefix: str = "", *, most: int = 400) -> list[tuple[str, str]]:
    """Nested metrics as (dotted name, text), at most `most` of them."""
    found: list[tuple[str, str]] = []
    for name, value in metrics.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, dict):
            found += flat(value, f"{dotted}.")
        else:
            found.append((dotted, f"{value:.6g}" if isinstance(value, float) else _text(value)))
    return found[:most]


def _time(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.2g} s"


def _text(value: Any) -> str:
    return "" if value is None else str(value)
