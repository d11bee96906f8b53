"""Videos of episodes, failures first, and a table of all episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from emt_core.evaluation.comparison.runs import Run
from emt_core.explore import numbers
from emt_core.explore.figures.results import short_task
from pages.parts import cached, glossary
from pages.parts.plain import escape
from pages.parts.widgets import choice, one_page

VIDEOS_A_PAGE = 12
ROWS_A_PAGE = 100
SHOW = {"first": "Failures first", "failures": "Failures", "successes": "Successes"}
EVERY = "all"
COLUMNS = tuple("task episode seed success steps seconds failure instruction detail".split())


def rollouts(runs: Sequence[Run]) -> None:
    """Videos and table of one run, filtered by task, checkpoint and outcome."""
    st.subheader("Rollouts", anchor=False, help=glossary.ROLLOUTS)
    run, rows = _filtered(runs)
    _videos(run, rows)
    with st.expander(f"Episodes: {numbers.whole(len(rows))}", icon=":material/table_rows:"):
        _table(rows)


def _filtered(runs: Sequence[Run]) -> tuple[Run, list[dict[str, Any]]]:
    by_label = {run.label: run for run in runs}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = (
            st.selectbox("Run", list(by_label), key="rollout-run", width=260)
            if len(runs) > 1
            else runs[0].label
        )
        run = by_label[label if label in by_label else runs[0].label]
        table = cached.parquet(run.artifact, "episodes.parquet")
        steps = sorted(set(table["checkpoint"].to_pylist()))
        step = run.results["chosen"]
        if len(steps) > 1:
            step = st.selectbox(
                "Checkpoint",
                steps,
                index=steps.index(step),
                format_func="step {:,}".format,
                key="rollout-step",
                width=160,
            )
        table = table.filter(pc.equal(table["checkpoint"], step))  # pyright: ignore[reportAttributeAccessIssue]
        tasks = list(dict.fromkeys(table["task"].to_pylist()))
        task = EVERY
        if len(tasks) > 1:
            task = st.selectbox(
                "Task", [EVERY, *tasks], format_func=short_task, key="rollout-task", width=260
            )
        kinds = sorted({kind for kind in table["failure"].to_pylist() if kind})
        kind = EVERY
        if len(kinds) > 1:
            kind = st.selectbox(
                "Failure",
                [EVERY, *kinds],
                format_func=lambda k: glossary.FAILURES.get(k, k),
                key="rollout-kind",
                width=200,
            )
        show = choice("Show", SHOW, format_func=SHOW.get, key="rollout-show", in_url=False)
    return run, _rows(table, task or EVERY, kind or EVERY, show)


def _rows(table: pa.Table, task: str, kind: str, show: str) -> list[dict[str, Any]]:
    rows = table.to_pylist()
    if task != EVERY:
        rows = [row for row in rows if row["task"] == task]
    if kind != EVERY:
        rows = [row for row in rows if row["failure"] == kind]
    if show == "failures":
        rows = [row for row in rows if not row["success"]]
    elif show == "successes":
        rows = [row for row in rows if row["success"]]
    return sorted(rows, key=lambda row: row["success"])


def _videos(run: Run, rows: list[dict[str, Any]]) -> None:
    filmed = [row for row in rows if row["video"]]
    if not filmed:
        st.caption("No videos match. `videos` in the recipe sets how many per task are recorded.")
        return
    shown = one_page(filmed, VIDEOS_A_PAGE, f"rollout-page-{len(filmed)}")
    with st.grid("auto", min_column_width=210, gap="small"):
        for row in shown:
            with st.container(border=True, gap="xsmall", height="stretch"):
                _card(run, row)


def _card(run: Run, row: dict[str, Any]) -> None:
    path = run.artifact.data / row["video"]
    if path.resolve().is_relative_to(run.artifact.data.resolve()) and path.is_file():
        st.video(str(path), loop=True, muted=True)
    else:
        st.caption("The video file is missing.")
    badge = ":green-badge[:material/check: solved]" if row["success"] else _failure_badge(row)
    st.markdown(
        f"{badge} {numbers.counted(row['steps'], 'step')}", help=escape(row["detail"]) or None
    )
    st.text(row["instruction"] or row["task"])
    st.caption(f"{escape(short_task(row['task']))}, layout {row['seed']}")


def _failure_badge(row: dict[str, Any]) -> str:
    words = glossary.FAILURES.get(row["failure"], row["failure"])
    if row["goals"] > 1:
        words = f"{row['completed']} of {row['goals']} goals, {words}"
    color = "orange" if row["failure"] == "step_cap" else "red"
    return f":{color}-badge[:material/close: {escape(words)}]"


def _table(rows: list[dict[str, Any]]) -> None:
    shown = one_page(rows, ROWS_A_PAGE, f"episodes-page-{len(rows)}")
    st.dataframe(
        [{name: row[name] for name in COLUMNS} for row in shown],
        hide_index=True,
        column_config={"seed": st.column_config.NumberColumn("layout", format="%d")},
    )
