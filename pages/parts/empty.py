"""Empty states: what this page will show, and the exact command or button that gets there."""

from __future__ import annotations

import streamlit as st

from emt_core.flow import STAGES
from pages.parts.plain import escape, show_problem
from pages.parts.runs import REPOSITORY, start
from pages.parts.view import View


def needs(view: View, *stages: str, shows: str) -> None:
    """Stop the page with directions unless the view has these stages."""
    missing = [stage for stage in stages if not view.chain.has(stage)]
    if not missing:
        return
    with st.container(border=True):
        if view.recipe is None:
            _nothing_ran(view, missing[-1])
        else:
            last = missing[-1]
            st.subheader(f"{last.capitalize()} has not run yet", anchor=False)
            st.markdown(f"{shows} For this, **{last}** has to run: {STAGES[last].does}.")
            st.code(f"emt run {view.recipe_file} --workspace {view.workspace.path} --until {last}", language="bash")
            st.button(
                f"Run up to {last}",
                type="primary",
                icon=":material/play_arrow:",
                on_click=start,
                args=(view, last),
                key="run-missing",
            )
        problem = st.session_state.pop("_launch_problem", None)
        if problem is not None:
            show_problem(problem)
    st.stop()


def _nothing_ran(view: View, until: str) -> None:
    st.subheader("This workspace is empty", anchor=False)
    st.markdown(
        "A **recipe** names your vision-language pool and your robot data; running it fills the workspace with "
        "features, scores and a selection, and these pages with figures. Run one from a terminal:"
    )
    st.code(f"emt run my_recipe.yaml --workspace {view.workspace.path}", language="bash")
    recipes = sorted((REPOSITORY / "recipes").glob("*.yaml"))
    if recipes:
        st.markdown("or start one of the recipes that come with the product; the demo needs no download and no GPU:")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            path = st.selectbox(
                "Recipe",
                recipes,
                index=next((i for i, p in enumerate(recipes) if p.stem == "demo"), 0),
                format_func=lambda p: p.stem,
                label_visibility="collapsed",
                width=320,
            )
            st.button(
                f"Run {escape(path.stem)}",
                type="primary",
                icon=":material/play_arrow:",
                on_click=start,
                args=(view, None),
                kwargs={"recipe_file": path, "title": f"Run {path.stem}"},
                key="run-first",
            )
