"""Stages as background jobs: launch from a page, watch, read the log, stop. All state is on disk (jobs.py)."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from emt_core import jobs
from emt_core.artifact import Workspace
from emt_core.errors import EmtError
from emt_core.figures import numbers
from emt_core.flow import STAGES
from emt_core.plan import make_plan
from emt_core.progress import duration
from emt_core.recipe import load_recipe
from emt_core.status import MEANING, InstanceStatus, plan_status
from pages.parts.plain import escape, show_problem
from pages.parts.view import View

REPOSITORY = Path(__file__).parents[2]
ICON = {
    "done": ":green[:material/check_circle:]",
    "running": ":blue[:material/progress_activity:]",
    "starting": ":blue[:material/progress_activity:]",
    "stale": ":orange[:material/history:]",
    "interrupted": ":orange[:material/pause_circle:]",
    "failed": ":red[:material/error:]",
    "lost": ":red[:material/error:]",
    "cancelled": ":gray[:material/cancel:]",
    "missing": ":gray[:material/radio_button_unchecked:]",
}


@st.cache_data(ttl=5, max_entries=8, show_spinner=False)
def recipe_status(recipe_file: str, changed: float, workspace: str) -> list[InstanceStatus]:
    """State of every instance. `changed` (the recipe's mtime) and a short life keep it true while jobs run."""
    return plan_status(make_plan(load_recipe(recipe_file)), Workspace.open(workspace))


def page_header(view: View, title: str, caption: str, stages: tuple[str, ...]) -> None:
    """Title on the left, the stages behind this page on the right, running work below."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    with left, st.container(gap="xsmall"):
        st.title(title, anchor=False)
        st.caption(caption)
    if view.recipe_file is not None:
        with right, st.container(horizontal=True, horizontal_alignment="right"):
            popover = st.popover("Run", icon=":material/play_circle:", on_change="rerun", key=f"run-{title}")
            if popover.open:
                with popover:
                    _stages(view, stages)
    live_jobs(view, title)


def _stages(view: View, stages: tuple[str, ...]) -> None:
    """Each instance of the stages behind a page: its state, what it holds, a button to run it."""
    try:
        states = recipe_status(str(view.recipe_file), view.recipe_file.stat().st_mtime, str(view.workspace.path))
    except EmtError as error:
        show_problem(error)
        return
    shown = [state for state in states if state.stage in stages]
    if not shown:
        st.text(f"The recipe has none of: {', '.join(stages)}.")
    for state in shown:
        name, button = st.columns([4, 1], vertical_alignment="center")
        facts = [state.state]
        if state.rows is not None:
            facts.append(f"{numbers.short(state.rows)} rows")
        if state.seconds is not None:
            facts.append(duration(state.seconds))
        name.markdown(
            f"{ICON[state.state]} **{escape(state.label)}**  \n:gray[{escape(', '.join(facts))}]",
            help=f"{STAGES[state.stage].does}. {MEANING[state.state].capitalize()}. Key `{state.key}`.",
        )
        if state.state not in ("done", "running"):
            button.button("Run", key=f"run-{state.label}", on_click=start, args=(view, state.label), width="stretch")
    problem = st.session_state.pop("_launch_problem", None)
    if problem is not None:
        show_problem(problem)


def start(view: View, until: str | None, *, recipe_file: Path | None = None, title: str = "") -> None:
    """Launch; a refusal is kept for the page to show."""
    try:
        job = jobs.launch(view.workspace, recipe_file or view.recipe_file, until=until, title=title)
    except EmtError as error:
        st.session_state["_launch_problem"] = error
    else:
        st.session_state.setdefault("_watched", []).append(job.id)


def live_jobs(view: View, place: str) -> None:
    """Jobs that run, and those this session launched until they are put away."""
    watched = st.session_state.setdefault("_watched", [])
    shown = [job for job in jobs.list_jobs(view.workspace)[:20] if job.active or job.id in watched]
    for job in shown:
        if job.active and job.id not in watched:
            watched.append(job.id)
        fragment = st.fragment(_job, run_every=1.0 if job.active else None)
        fragment(view, job, place)


def _job(view: View, job: jobs.Job, place: str) -> None:
    state = job.state
    was_active = st.session_state.get(f"_active-{job.id}", False)
    st.session_state[f"_active-{job.id}"] = job.active
    if was_active and not job.active:
        st.rerun()  # the whole page: what the job made is there now
    with st.container(border=True):
        name, bar, act = st.columns([3, 5, 2], vertical_alignment="center")
        name.markdown(f"{ICON[state]} **{escape(job.asked['title'])}**  \n:gray[{state}, {duration(job.seconds)}]")
        with bar:
            _progress(view, job)
        with act, st.container(horizontal=True, horizontal_alignment="right", gap="small"):
            if job.active:
                st.button(
                    "Cancel",
                    key=f"cancel-{place}-{job.id}",
                    icon=":material/stop_circle:",
                    on_click=job.cancel,
                    help="Asks it to stop. What is committed stays; running it again goes on from there.",
                )
            else:
                st.button(
                    "Close", key=f"close-{place}-{job.id}", icon=":material/close:", on_click=_forget, args=(job.id,)
                )
        with st.expander("Log", expanded=state in ("failed", "lost"), icon=":material/terminal:"):
            st.code(job.log_tail(60) or "Nothing printed yet.", language=None, height=220, wrap_lines=True)


def _progress(view: View, job: jobs.Job) -> None:
    """The newest progress file among the stages being built, while the job runs."""
    if not job.active:
        return
    found = []
    for path in view.workspace.path.glob("*/*.building/progress.json"):
        try:
            from emt_core.artifact import read_json

            found.append(read_json(path))
        except (FileNotFoundError, EmtError):
            continue
    live = [p for p in found if p["at"] >= job.asked["launched"]]
    if not live:
        st.progress(0.0, text="Starting")
        return
    now = max(live, key=lambda p: p["at"])
    words = f"{now['label']} {now['doing']}: {now['done']:,}"
    if now["total"]:
        words += f" of {now['total']:,} {now['unit']}"
    if now["rate"]:
        words += f", {numbers.short(now['rate'])}/s"
    if now["seconds_left"] is not None and now["done"] != now["total"]:
        words += f", {duration(now['seconds_left'])} left"
    share = min(now["done"] / now["total"], 1.0) if now["total"] else 0.0
    st.progress(share, text=escape(words))


def _forget(job_id: str) -> None:
    st.session_state["_watched"] = [other for other in st.session_state.get("_watched", []) if other != job_id]
