"""What a page shows before its stages have run: what will appear, and how to run them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from emt_core.flow import STAGES
from emt_core.recipe.recipe import load_recipe
from emt_core.run.recipes import add_recipe
from pages.parts.plain import attempt, escape, show_kept_problem
from pages.parts.recipes import product_recipes, show_recipe
from pages.parts.runs import start
from pages.parts.view import View
from pages.parts.widgets import action


def needs(view: View, *stages: str, shows: str) -> None:
    """Stop the page with directions unless these stages have run."""
    missing = [stage for stage in stages if not view.chain.has(stage)]
    if not missing:
        return
    if not view.recipe:
        first_steps(view)
        st.stop()
    with st.container(border=True):
        last = missing[-1]
        st.subheader(f"{last.capitalize()} has not run yet", anchor=False)
        st.markdown(f"{shows} Run **{last}** first: {STAGES[last].sentence}")
        run_up_to(view, last)
    st.stop()


def planned(view: View, stage: str) -> bool:
    """Whether the recipe, or one that it extends, has an entry of this stage.

    Raises EmtError where the recipe is not valid.
    """
    file = view.recipe_file
    if file is None or not file.exists():
        return False
    return any(instance.stage == stage for instance in load_recipe(file).instances)


def run_up_to(view: View, stage: str) -> None:
    """A command and a button that run the recipe up to a stage; nothing for viewers."""
    if view.workspace.read_only:
        return
    st.code(command_up_to(view, stage), language="bash")
    key = f"run-up-to-{stage}"
    action(
        f"Run up to {stage}",
        start,
        view,
        stage,
        icon="play_arrow",
        type="primary",
        kwargs={"place": key},
        key=key,
    )
    show_kept_problem(key)


def command_up_to(view: View, stage: str) -> str:
    return f"emt run {view.recipe_file} --workspace {view.workspace.path} --until {stage}"


def first_steps(view: View) -> None:
    """How to start, in a workspace where no recipe has run."""
    with st.container(border=True):
        st.subheader("This workspace is empty", anchor=False)
        if view.workspace.read_only:
            st.markdown("Nothing has run here yet, and it is open for viewing only.")
            return
        st.markdown(
            "A **recipe** names your vision-language pool and your robot data. Running it fills "
            "the workspace with features, scores and a selection, and these pages with figures. "
            "Run one from a terminal:"
        )
        st.code(f"emt run my_recipe.yaml --workspace {view.workspace.path}", language="bash")
        recipes = product_recipes()
        if not recipes:
            return
        st.markdown("or start from a built-in recipe; the demo needs no download and no GPU:")
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
                kwargs={
                    "place": "first steps",
                    "recipe_file": path,
                    "title": f"{path.stem}: all stages",
                },
                key="run-first",
            )
            action(
                "Add without running",
                attempt,
                "first steps",
                _add,
                view,
                path,
                icon="account_tree",
                key="add-first",
                help="Adds the recipe to the workspace and runs nothing.",
            )
        show_kept_problem("first steps")


def _add(view: View, path: Path) -> None:
    show_recipe(add_recipe(view.workspace, path))
