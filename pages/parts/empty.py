"""Empty states: what this page will show, and the exact command or button that gets there."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from emt_core.errors import EmtError
from emt_core.flow import STAGES
from emt_core.run.recipes import add_recipe
from pages.parts.plain import escape
from pages.parts.recipes import product_recipes, show_recipe
from pages.parts.runs import launch_problem, start
from pages.parts.view import View
from pages.parts.widgets import action


def needs(view: View, *stages: str, shows: str) -> None:
    """Stop the page with directions unless the view has these stages."""
    missing = [stage for stage in stages if not view.chain.has(stage)]
    if not missing:
        return
    if not view.recipe:
        first_steps(view)
        st.stop()
    with st.container(border=True):
        last = missing[-1]
        st.subheader(f"{last.capitalize()} has not run yet", anchor=False)
        st.markdown(f"{shows} For this, **{last}** has to run: {STAGES[last].sentence}")
        if not view.workspace.read_only:
            st.code(
                f"emt run {view.recipe_file} --workspace {view.workspace.path} --until {last}",
                language="bash",
            )
            action(
                f"Run up to {last}",
                start,
                view,
                last,
                icon="play_arrow",
                type="primary",
                key="run-missing",
            )
        launch_problem()
    st.stop()


def first_steps(view: View) -> None:
    """A workspace in which no recipe ran: what one is, and how to start."""
    with st.container(border=True):
        st.subheader("This workspace is empty", anchor=False)
        if view.workspace.read_only:
            st.markdown("Nothing was run here yet, and it is open for viewing only.")
            return
        st.markdown(
            "A **recipe** names your vision-language pool and your robot data; running it fills the workspace with "
            "features, scores and a selection, and these pages with figures. Run one from a terminal:"
        )
        st.code(f"emt run my_recipe.yaml --workspace {view.workspace.path}", language="bash")
        recipes = product_recipes()
        if not recipes:
            return
        st.markdown(
            "or start from one that comes with the product; the demo needs no download and no GPU:"
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            path = st.selectbox(
                "Recipe",
                recipes,
                format_func=lambda p: p.stem,
                label_visibility="collapsed",
                width=320,
            )
            action(
                f"Run {escape(path.stem)}",
                start,
                view,
                None,
                icon="play_arrow",
                type="primary",
                kwargs={"recipe_file": path, "title": f"{path.stem}: all stages"},
                key="run-first",
            )
            action(
                "Only look at it",
                _add,
                view,
                path,
                icon="account_tree",
                key="add-first",
                help="Adds it to the workspace and runs nothing.",
            )
        launch_problem()


def _add(view: View, path: Path) -> None:
    try:
        show_recipe(add_recipe(view.workspace, path))
    except EmtError as error:
        st.session_state["_launch_problem"] = error
