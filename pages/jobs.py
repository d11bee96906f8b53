"""Jobs: everything launched in this workspace, newest first, with progress, logs and buttons."""

from __future__ import annotations

import streamlit as st

from emt_core.explore import numbers
from emt_core.run import jobs
from emt_core.run.jobs import Job
from pages.parts.job_card import job_card
from pages.parts.plain import attempt, show_kept_problem
from pages.parts.router import link_to
from pages.parts.runs import rerun_when_ended
from pages.parts.view import View, current
from pages.parts.widgets import action, choice, one_page

PER_PAGE = 10
LIVE_S = 1.0
SHOW = {"all": "All", "active": "Running", "ended": "Ended", "trouble": "Failed or lost"}


def main() -> None:
    view = current()
    left, right = st.columns([5, 2], vertical_alignment="center")
    with left, st.container(gap="xsmall"):
        st.title("Jobs", anchor=False)
        st.caption(
            "Everything launched in this workspace, from here or from a terminal. Jobs keep "
            "running when the app or the browser is closed."
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
                "jobs",
                jobs.remove_finished,
                view.workspace,
                icon="delete_sweep",
                help="Deletes ended jobs and their logs; their results are kept.",
            )
    show_kept_problem("jobs")
    show = choice("Show", list(SHOW), key="jobs", format_func=SHOW.__getitem__)
    shown = _filtered(everything, active, show)
    if not shown:
        st.caption("No jobs match.")
    if len(shown) > PER_PAGE:
        st.caption(numbers.counted(len(shown), "job"))
    page = one_page(shown, PER_PAGE, "jobs_page", bind="query-params")
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
    for name in ids:
        job = Job(view.workspace, name)
        if (job.path / "job.json").exists():  # removed in another window
            job_card(job, "jobs")
    rerun_when_ended(view)


def _nothing() -> None:
    with st.container(border=True):
        st.subheader("No jobs yet", anchor=False)
        st.markdown(
            "Launch a stage from the **Overview**, or run a recipe in a terminal. Both appear here "
            "with their progress, their log and a button to cancel them."
        )
        link_to("overview")


main()
