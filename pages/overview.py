"""Overview: a recipe's stages with their states, what to do next, and buttons to do it."""

from __future__ import annotations

import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore.figures.flow import flow_picture
from emt_core.explore.tables.flow import Fold, boxes_of, edges_of, folds_of
from emt_core.run import jobs
from emt_core.run.status import MEANING, InstanceStatus, NextStep, State, next_step
from pages.parts.empty import first_steps
from pages.parts.links import read_from_url, write_to_url
from pages.parts.overview.stage_detail import detail
from pages.parts.plain import escape, show_kept_problem, show_problem
from pages.parts.recipes import add_recipe_popover
from pages.parts.router import link_to
from pages.parts.runs import live_jobs, start
from pages.parts.states import ICON, headlines_of, look_again, problems_of, states_of
from pages.parts.view import View, current
from pages.parts.widgets import action, chart, side_by_side

LIVE_S = 2.0
NEXT_ICON = {
    "wait": ICON["running"],
    "mend": ICON["failed"],
    "resume": ICON["interrupted"],
    "renew": ICON["stale"],
    "run": ":violet[:material/play_circle:]",
    "look": ICON["done"],
}


def main() -> None:
    view = current()
    _header(view)
    if not view.recipe:
        _picture(folds_of(()), [], None, {})
        live_jobs(view, "overview")
        first_steps(view)
        return
    active = bool(jobs.active_jobs(view.workspace))
    st.session_state.pop("_states", None)
    st.fragment(_flow, run_every=LIVE_S if active else None)(view)
    live_jobs(view, "overview")
    show_kept_problem("next step")
    try:
        states = states_of(view)
    except EmtError:
        return  # _flow has shown it
    st.session_state["_states"] = [state.state for state in states]
    detail(view, states, st.session_state["stage"])


def _header(view: View) -> None:
    left, right = st.columns([5, 3], vertical_alignment="center")
    with left, st.container(gap="xsmall"):
        st.title("Overview", anchor=False)
        st.caption("The stages of this recipe, their states, and what to do next.")
    if not view.recipe or view.workspace.read_only:
        return
    with right, st.container(horizontal=True, horizontal_alignment="right", gap="small"):
        action(
            "Check inputs",
            look_again,
            view.recipe_file,
            icon="refresh",
            type="tertiary",
            help="Reads inputs and models on disk again; stages whose inputs changed become stale.",
        )
        add_recipe_popover(view)


def _flow(view: View) -> None:
    """The next step and the picture; redrawn every two seconds while a job runs."""
    try:
        states = states_of(view)
    except EmtError as error:
        _picture(folds_of(()), [], None, {})
        show_problem(error)
        return
    active = jobs.active_jobs(view.workspace)
    coming = {
        entry["key"]
        for job in active
        for entry in job.instances
        if entry["state"] in ("todo", "waiting")
    }
    step = next_step(states, coming)
    if step.button and any(not job.instances for job in active):
        step = NextStep(kind="wait", label=step.label, sentence="A job is starting.")
    _next(view, step)
    for problem in problems_of(view, states):
        show_problem(problem)
    folds = folds_of(states)
    options = [name for fold in folds for name in (fold.id, *(m.label for m in fold.members))]
    options = list(dict.fromkeys(options))
    before = st.session_state.get("stage")
    read_from_url("stage", options)
    if before is None and "stage" not in st.query_params:
        made = [state.label for state in states if state.state == "done"]
        st.session_state["stage"] = step.label or view.select or (made or [folds[0].id])[-1]
    write_to_url("stage", st.session_state["stage"])
    _picture(folds, states, st.session_state["stage"], headlines_of(view, states))
    below = st.session_state.get("_states")
    news = st.session_state.pop("_clicked", False) or st.session_state.pop("_launched", False)
    if news or (below and below != [state.state for state in states]):
        st.rerun()  # the detail below stands outside of this fragment


def _next(view: View, step: NextStep) -> None:
    with side_by_side(border=True):
        st.markdown(f"{NEXT_ICON[step.kind]} {escape(step.sentence)}", width="stretch")
        if step.button and not view.workspace.read_only:
            action(
                step.button,
                start,
                view,
                None,
                icon="play_arrow",
                type="primary",
                kwargs={"title": f"{view.recipe}: all stages", "place": "next step"},
                key="run-next",
            )
        if step.kind == "look":
            for name in ("results", "present") if step.label else ("select", "browse"):
                link_to(name)


def _picture(
    folds: list[Fold], states: list[InstanceStatus], chosen: str | None, headlines: dict[str, str]
) -> None:
    home = next(
        (f.id for f in folds if chosen == f.id or any(chosen == m.label for m in f.members)), None
    )
    figure = flow_picture(boxes_of(folds, headlines), edges_of(folds), chosen=home)
    chart(
        figure,
        key="flow",
        on_select=_clicked if chosen is not None else "ignore",
        selection_mode="points",
        alt="The stages of the recipe from left to right.",
    )
    if states:
        there = {state.state for state in states}
        words = [f"{ICON[s]} {_meaning(s)}" for s in MEANING if s in there]
        st.caption("  ·  ".join(words))


def _meaning(state: State) -> str:
    return state if state == MEANING[state] else f"{state}: {MEANING[state]}"


def _clicked() -> None:
    points = st.session_state["flow"]["selection"]["points"]
    if points:
        found = points[0]["customdata"]
        st.session_state["stage"] = found[0] if isinstance(found, list) else found
        st.session_state["_clicked"] = True


main()
