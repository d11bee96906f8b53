"""Jobs: everything that was launched, from here or from a terminal, newest first; watched, stopped, run again."""

from __future__ import annotations

import math

import streamlit as st

from emt_core.explore import numbers
from emt_core.run import jobs
from emt_core.run.jobs import Job
from pages.parts.job_card import attempt, job_card
from pages.parts.router import link_to
from pages.parts.runs import launch_problem, rerun_when_ended
from pages.parts.view import View, current
from pages.parts.widgets import action, choice, side_by_side

PER_PAGE = 10
LIVE_S = 1.0
SHOW = {"all": "All", "active": "Running", "ended": "Ended", "trouble": "Failed or lost"}


def main() -> None:
    view = current()
    left, right = st.columns([5, 2], vertical_alignment="center")
    with left, st.container(gap="xsmall"):
        st.title("Jobs", anchor=False)
        st.caption(
            "Everything launched in this workspace, from here or from a terminal. Jobs outlive the app and the browser."
        )
    everything = jobs.list_jobs(view.workspace)
    if not everything:
        _nothing()
        return
    active = jobs.active_jobs(view.workspace)
    ended = len(everything) - len(active)
    if ended and not view.workspace.read_only:
        with right, st.container(horizontal=True, horizontal_alignment="right"):
            action(
                "Remove ended jobs",
                attempt,
                jobs.remove_finished,
                view.workspace,
                icon="delete_sweep",
                help="Forgets every job that has ended, and its log; what they made stays.",
            )
    launch_problem()
    show = choice("Show", list(SHOW), key="jobs", format_func=SHOW.__getitem__)
    shown = _filtered(everything, active, show)
    pages = max(math.ceil(len(shown) / PER_PAGE), 1)
    at = 1
    if pages > 1:
        with side_by_side(horizontal_alignment="distribute"):
            st.caption(numbers.counted(len(shown), "job"))
            at = st.pagination(pages, key="jobs_page", bind="query-params")
    if not shown:
        st.caption("None of the jobs is of this kind.")
    page = shown[(min(at, pages) - 1) * PER_PAGE : min(at, pages) * PER_PAGE]
    st.fragment(_cards, run_every=LIVE_S if active else None)(view, [job.id for job in page])


def _filtered(everything: list[Job], active: list[Job], show: str) -> list[Job]:
    running = {job.id for job in active}
    if show == "active":
        return [job for job in everything if job.id in running]
    if show == "ended":
        return [job for job in everything if job.id not in running]
    if show == "trouble":
        return [
            job for job in everything if job.id not in running and job.state in ("failed", "lost")
        ]
    return everything


def _cards(view: View, ids: list[str]) -> None:
    launch_problem()
    for name in ids:
        job = Job(view.workspace, name)
        if (job.path / "job.json").exists():  # removed in another window
            job_card(job, "jobs")
    rerun_when_ended(view)


def _nothing() -> None:
    with st.container(border=True):
        st.subheader("Nothing was launched yet", anchor=False)
        st.markdown(
            "Launch a stage from the **Overview**, or run a recipe in a terminal: both show here, with progress, log "
            "and a button to stop them."
        )
        link_to("overview")


main()
