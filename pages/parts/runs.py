"""The head of every page: title, a button for each stage behind the page, and running jobs.

All state of jobs is on disk (emt_core/run/jobs.py).
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore import numbers
from emt_core.flow import STAGES
from emt_core.run import jobs
from emt_core.run.status import MEANING
from emt_core.workspace.progress import duration
from pages.parts.job_card import job_card, watch, what_now
from pages.parts.plain import attempt, escape, show_kept_problem, show_problem
from pages.parts.router import link_to
from pages.parts.states import ICON, states_of
from pages.parts.view import View

LIVE_S = 1.0
SHOWN_AT_ONCE = 4
HEADER = "header"
"""Where errors of the header's buttons are shown."""


def page_header(view: View, title: str, caption: str, stages: tuple[str, ...]) -> None:
    """Title on the left, the stages behind this page on the right, running jobs below."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    with left, st.container(gap="xsmall"):
        st.title(title, anchor=False)
        st.caption(caption)
    if view.recipe_file is not None and not view.workspace.read_only:
        with right, st.container(horizontal=True, horizontal_alignment="right"):
            popover = st.popover(
                "Run", icon=":material/play_circle:", on_change="rerun", key=f"run-{title}"
            )
            if popover.open:
                with popover:
                    _stages(view, stages)
    live_jobs(view, title)


def _stages(view: View, stages: tuple[str, ...]) -> None:
    """Each instance of these stages: its state, its rows and time, a button to run it."""
    try:
        states = states_of(view)
    except EmtError as error:
        show_problem(error)
        return
    shown = [state for state in states if state.stage in stages]
    if not shown:
        st.text(f"The recipe has no {' or '.join(stages)} stage.")
    for state in shown:
        name, button = st.columns([4, 1], vertical_alignment="center")
        facts = [state.state]
        if state.rows is not None:
            facts.append(f"{numbers.short(state.rows)} rows")
        if state.seconds is not None:
            facts.append(duration(state.seconds))
        name.markdown(
            f"{ICON[state.state]} **{escape(state.label)}**  \n:gray[{escape(', '.join(facts))}]",
            help=f"{STAGES[state.stage].sentence} {MEANING[state.state].capitalize()}. "
            f"Key `{state.key}`.",
        )
        if state.state not in ("done", "running"):
            button.button(
                "Run",
                key=f"run-{state.label}",
                on_click=start,
                args=(view, state.label),
                kwargs={"place": HEADER},
                width="stretch",
            )
    show_kept_problem(HEADER)


def start(
    view: View,
    until: str | None,
    *,
    place: str,
    recipe_file: Path | None = None,
    title: str = "",
) -> None:
    """Launch a job from a button; a refusal is kept for `place` to show."""
    attempt(place, _launch, view, recipe_file or view.recipe_file, until, title)
    # A button inside a fragment reruns the fragment alone, but the whole page has news.
    st.session_state["_launched"] = True


def _launch(view: View, recipe_file: Path, until: str | None, title: str) -> None:
    watch(jobs.launch(view.workspace, recipe_file, until=until, title=title))


def live_jobs(view: View, place: str) -> None:
    """Running jobs, and those this session launched until they are closed. Polls while one runs."""
    if not _to_show(view):
        return
    active = bool(jobs.active_jobs(view.workspace))
    st.fragment(_live, run_every=LIVE_S if active else None)(view, place)


def _live(view: View, place: str) -> None:
    shown = _to_show(view)
    for job in shown[:SHOWN_AT_ONCE]:
        job_card(job, place, close=_forget)
    if len(shown) > SHOWN_AT_ONCE:
        link_to("jobs", f"{len(shown) - SHOWN_AT_ONCE} more")
    rerun_when_ended(view)


def _to_show(view: View) -> list[jobs.Job]:
    watched = st.session_state.setdefault("_watched", [])
    active = jobs.active_jobs(view.workspace)
    watched += [job.id for job in active if job.id not in watched]
    return [job for job in jobs.list_jobs(view.workspace) if job.id in watched]


def rerun_when_ended(view: View) -> None:
    """Inside a fragment: rerun the whole page once a job has started or ended."""
    now = {job.id for job in jobs.active_jobs(view.workspace)}
    before = st.session_state.get("_active_jobs")
    st.session_state["_active_jobs"] = now
    asked = st.session_state.pop("_launched", False)
    if asked or (before is not None and before != now):
        st.rerun()


def badge(view: View) -> None:
    """In the sidebar: how many jobs run and what the newest does."""
    active = jobs.active_jobs(view.workspace)
    st.session_state.pop("_launched", None)
    st.session_state["_active_jobs"] = {job.id for job in active}
    if active:
        st.fragment(_badge, run_every=2 * LIVE_S)(view)


def _badge(view: View) -> None:
    active = jobs.active_jobs(view.workspace)
    if active:
        share, _ = what_now(active[0], "running")
        now = active[0].current
        doing = (
            f"{now['label']} {share:.0%}" if now and share else now["label"] if now else "starting"
        )
        label = f"{len(active)} running: {doing}" if len(active) > 1 else f"Running: {doing}"
        link_to("jobs", escape(label), icon="progress_activity", width="stretch")
    rerun_when_ended(view)


def _forget(job_id: str) -> None:
    st.session_state["_watched"] = [
        other for other in st.session_state.get("_watched", []) if other != job_id
    ]
