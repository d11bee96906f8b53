"""The switcher: which recipe, which score, which selection. Links carry it in their query parameters."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from emt_core.artifact import Artifact, Workspace
from emt_core.explore.lineage import Lineage, finished, labels_of, lineage, recipe_names, selections_of
from pages.parts.view import View

NO_SELECTION = "none"


def choose_view(folder: Path | None) -> View:
    """Draw the switcher and keep the view for the page. Raises EmtError where the folder is no workspace."""
    workspace = Workspace.open(folder or Path.cwd() / "workspace", create=True)
    recipes = recipe_names(workspace)
    with st.sidebar:
        st.caption(f":material/folder_open: {_label(workspace.path.name)}", help=f"`{workspace.path}`")
        recipe = _choose("Recipe", recipes, key="recipe", help_text="What was run here; the latest comes first.")
        done = finished(workspace, recipe) if recipe else {}
        score = _choose(
            "Score",
            labels_of(done, "score")[::-1],
            key="score",
            help_text="Which estimator's scores the pages show. Newest first.",
        )
        select = _choose(
            "Selection",
            _ranked_first(done, selections_of(done, score)),
            key="selection",
            help_text="Which selection counts as 'selected' on the pages. Newest first, random draws last.",
            always=True,
        )
    chain = lineage(workspace, done, score=score, select=select) if done else Lineage()
    view = View(workspace=workspace, recipe=recipe, done=done, chain=chain, score=score, select=select)
    st.session_state["_view"] = view
    return view


def _choose(label: str, options: list[str], *, key: str, help_text: str, always: bool = False) -> str | None:
    """The only option without asking (unless `always`), or a select box bound to the link."""
    if not options:
        return None
    if len(options) == 1 and not always:
        return options[0]
    if st.session_state.get(key) not in options:
        st.session_state.pop(key, None)
    return st.selectbox(label, options, key=key, help=help_text, bind="query-params", format_func=short_label)


def _ranked_first(done: dict[str, Artifact], labels: list[str]) -> list[str]:
    """Newest first; what was ranked by score before random draws and the whole pool."""
    found = labels[::-1]
    found.sort(key=lambda label: done[label].config.get("strategy") != "top")
    return found


def short_label(label: str) -> str:
    """`select.top` -> `top`; a stage's only, unnamed instance keeps the stage's name."""
    return label.partition(".")[2] or label


def _label(name: str) -> str:
    return name.replace("_", r"\_")
