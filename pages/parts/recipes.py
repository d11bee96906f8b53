"""Add a recipe to the workspace: a built-in one or a file. Runs nothing."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from emt_core.errors import EmtError
from emt_core.recipe.shipped import ROOT
from emt_core.run.recipes import add_recipe
from pages.parts.plain import show_problem
from pages.parts.view import View


def product_recipes() -> list[Path]:
    """The built-in recipes, the demo first."""
    found = sorted((ROOT / "recipes").glob("*.yaml"))
    return sorted(found, key=lambda path: path.stem != "demo")


def add_recipe_popover(view: View) -> None:
    """A popover with the built-in recipes and a field for a path."""
    popover = st.popover("Add a recipe", icon=":material/add:", on_change="rerun", key="add-recipe")
    if not popover.open:
        return
    with popover, st.form("add-recipe-form", border=False):
        st.caption(
            "A recipe names the data and the settings of every stage. Adding one runs nothing."
        )
        chosen = st.selectbox(
            "Built-in recipe",
            product_recipes(),
            index=None,
            format_func=lambda path: path.stem,
            placeholder="choose one",
        )
        own = st.text_input("or path to your own recipe", placeholder="a .yaml file")
        pressed = st.form_submit_button("Add", icon=":material/add:")
    if pressed:
        with popover:
            _add(view, Path(own.strip()) if own.strip() else chosen)


def _add(view: View, file: Path | None) -> None:
    if file is None:
        return
    try:
        show_recipe(add_recipe(view.workspace, file))
    except EmtError as error:
        show_problem(error)
    else:
        st.rerun()


def show_recipe(name: str) -> None:
    """Show this recipe on all pages."""
    for key in ("recipe", "stage"):
        st.session_state.pop(key, None)
        st.query_params.pop(key, None)
    st.query_params["recipe"] = name
