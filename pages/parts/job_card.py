"""A card for one job: what it does, how long it will take, its log, and buttons."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import streamlit as st

from emt_core.explore import numbers
from emt_core.run import jobs
from emt_core.run.engines.base import in_one_line
from emt_core.run.jobs import Job
from emt_core.workspace.progress import duration
from emt_core.workspace.words import and_list
from pages.parts.plain import attempt, escape, show_kept_problem
from pages.parts.states import ICON
from pages.parts.widgets import action

MEANING = {
    "starting": "the process has started and is planning",
    "running": "running",
    "stopping": "asked to stop; it is finishing the current batch",
    "done": "finished without an error",
    "failed": "ended with an error; see the log",
    "cancelled": "cancelled: finished batches are kept",
    "lost": "the process died (killed or machine restarted); finished batches are kept",
}
AGAIN = {"done": "Run again", "failed": "Run again", "cancelled": "Resume", "lost": "Resume"}
LOG_LINES = 400
LONG_LOG = 12


def job_card(job: Job, place: str, *, close: Callable[[str], None] | None = None) -> None:
    """Draw the card. place: tells two cards of one job apart. close: closes an ended one."""
    state = job.state
    with st.container(border=True, gap="small"):
        name, bar, act = st.columns([4, 4, 4], vertical_alignment="center")
        at_work = f"{state}, {duration(job.seconds)}"
        name.markdown(
            f"{ICON[state]} **{escape(title_of(job))}**  \n:gray[{at_work}]",
            help=f"{MEANING[state].capitalize()}. Job `{job.id}`.",
        )
        with bar:
            share, words = what_now(job, state)
            if state in jobs.ACTIVE:
                st.progress(share, text=escape(words))
            else:
                st.caption(escape(words))
        with act, st.container(horizontal=True, horizontal_alignment="right", gap="small"):
            _actions(job, state, place, close)
        if state in jobs.ACTIVE:
            _workers(job)
        show_kept_problem(f"{place}-{job.id}", once=False)
        _log(job, state, place)


def title_of(job: Job) -> str:
    """`demo_train: all stages · 22:51`: recipe, part of it, launch time (and day if not today)."""
    asked = job.asked
    recipe, launched = Path(asked.get("recipe") or "").stem, time.localtime(asked["launched"])
    named = asked["title"] if recipe in asked["title"] else f"{recipe}: {asked['title']}"
    today = time.localtime()[:3] == launched[:3]
    # no-break spaces: a date is not broken over two lines
    when = time.strftime("%H:%M" if today else "%d\u00a0%b\u00a0%H:%M", launched)
    return f"{named} · {when}"


def what_now(job: Job, state: str) -> tuple[float, str]:
    """(share done of the running stage, one line about it)."""
    instances = job.instances
    now = job.current if state in jobs.ACTIVE else None
    if now is None:
        made = [i["label"] for i in instances if i["state"] == "made"]
        bad = [i["label"] for i in instances if i["state"] == "failed"]
        cut_short = [i["label"] for i in instances if i["state"] in ("building", "waiting")]
        if bad:
            return 0.0, f"Failed during {bad[0]}"
        if cut_short:
            return 0.0, f"Stopped during {cut_short[0]}"
        if made:
            more = [f"{len(made) - 6} more"] if len(made) > 6 else []
            return 1.0, f"Created {and_list([*made[:6], *more])}"
        if state in jobs.ACTIVE:
            return 0.0, "Starting"
        return 0.0, "Nothing to do: all results exist" if instances and state == "done" else ""
    number = 1 + next(n for n, entry in enumerate(instances) if entry == now)
    words = (
        now["label"] if len(instances) == 1 else f"{now['label']} ({number} of {len(instances)})"
    )
    if now["state"] == "waiting":
        other = jobs.builder_of(job.workspace, now["stage"], now["key"], but=job)
        words += (
            f": waiting for {title_of(other)!r}, which is creating it"
            if other
            else ": waiting for another process"
        )
    progress = job.progress
    if progress is None:
        return 0.0, words
    words += f", {progress['doing']} {progress['done']:,}"
    if progress["total"]:
        words += f" of {progress['total']:,} {progress['unit']}"
    if progress["rate"]:
        rate = progress["rate"]
        words += f", {numbers.short(rate) if rate >= 10 else format(rate, '.2g')}/s"
    if progress["seconds_left"] is not None and progress["done"] != progress["total"]:
        words += f", {duration(progress['seconds_left'])} left"
    return (min(progress["done"] / progress["total"], 1.0) if progress["total"] else 0.0), words


def _workers(job: Job) -> None:
    """A line for each worker that makes a part of the running stage."""
    states = job.workers
    if not states:
        return
    table = pd.DataFrame(
        {
            "Worker": [state["worker"] for state in states],
            "Machine": [f"{state['host']}, process {state['pid']}" for state in states],
            "Rows": [state["rows"] for state in states],
            "Rows/s": [state["rate"] for state in states],
            "Restarts": [state["restarts"] for state in states],
        }
    )
    st.caption(
        in_one_line(states),
        help="Rows since a worker was last started; they count when a shard is done. A lost worker "
        "is started again and goes on behind its last shard.",
    )
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "Rows": st.column_config.NumberColumn(format="localized"),
            "Rows/s": st.column_config.NumberColumn(format="%.1f"),
        },
    )


def _actions(job: Job, state: str, place: str, close: Callable[[str], None] | None) -> None:
    key = f"{place}-{job.id}"
    writable = not job.workspace.read_only
    if state in jobs.ACTIVE and writable:
        if state != "stopping":
            action(
                "Cancel",
                attempt,
                key,
                job.cancel,
                icon="stop_circle",
                key=f"cancel-{key}",
                help="Asks the job to stop. Finished batches are kept for resuming.",
            )
        elif job.can_be_killed:
            action(
                "Kill",
                attempt,
                key,
                job.cancel,
                icon="dangerous",
                key=f"kill-{key}",
                kwargs={"hard": True},
                help="Ends the job and all its processes at once. Finished batches are kept.",
            )
        else:
            st.button("Stopping", key=f"stopping-{key}", icon=":material/pending:", disabled=True)
        return
    if state in AGAIN and writable:
        action(
            AGAIN[state],
            attempt,
            key,
            _again,
            job,
            icon="replay",
            key=f"again-{key}",
            help="Launches the same command; it continues from the last commit.",
        )
    if close is not None:
        action("Close", close, job.id, icon="close", key=f"close-{key}")
    elif writable:
        action(
            "Remove",
            attempt,
            key,
            jobs.remove,
            job,
            icon="delete",
            key=f"remove-{key}",
            help="Deletes the job and its log; its results are kept.",
        )


def _again(job: Job) -> None:
    watch(jobs.run_again(job))
    st.session_state["_launched"] = True


def watch(job: Job) -> None:
    """Show the job's card on every page until it is closed."""
    st.session_state.setdefault("_watched", []).append(job.id)


def _log(job: Job, state: str, place: str) -> None:
    key = f"log-{place}-{job.id}"
    box = st.expander(
        "Log",
        key=key,
        expanded=state in ("failed", "lost"),
        icon=":material/terminal:",
        type="compact",
        on_change="rerun",
    )
    if not box.open:
        return
    with box:
        command = shlex.join(["emt", *map(str, job.asked["command"])])
        st.code(command, language="bash", wrap_lines=True)
        text = job.log_tail(LOG_LINES) or "No output yet."
        long = text.count("\n") >= LONG_LOG
        with st.container(
            height=260 if long or state in jobs.ACTIVE else "content",
            border=False,
            autoscroll=state in jobs.ACTIVE,
        ):
            st.code(text, language=None, wrap_lines=True)
        st.download_button(
            "Download the log",
            job.whole_log,
            file_name=f"{job.id}.txt",
            mime="text/plain",
            key=f"save-{key}",
            icon=":material/download:",
            type="tertiary",
            on_click="ignore",
        )
