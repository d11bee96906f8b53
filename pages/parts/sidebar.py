"""The sidebar's choices: workspace, recipe, score and selection, kept in the address."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from emt_core.explore.reading import ranked_first
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.lineage import (
    Lineage,
    finished,
    labels_of,
    lineage,
    recipe_names,
    selections_of,
)
from pages.parts.links import read_from_url, write_to_url
from pages.parts.runs import badge
from pages.parts.switcher import open_workspace, workspace_switcher
from pages.parts.view import View


def choose_view(folder: Path | None, top: DeltaGenerator) -> View:
    """Draw the choices and make the View of this run.

    top: the place above the list of pages, for the workspace and its running jobs.

    Raises EmtError where the folder is no workspace.
    """
    workspace = open_workspace(folder)
    recipes = recipe_names(workspace)
    with top:
        workspace_switcher(workspace)
    with st.sidebar:
        recipe = _choose(
            "Recipe",
            recipes,
            key="recipe",
            help_text="Recipes of this workspace, the latest first.",
            always=True,
        )
        done = finished(workspace, recipe) if recipe else {}
        score = _choose(
            "Score",
            _learned_first(done, labels_of(done, "score")),
            key="score",
            help_text="The score that the pages show. Learned estimators first, then the newest.",
        )
        select = _choose(
            "Selection",
            ranked_first(done, selections_of(done, score)),
            key="selection",
            help_text="The selection that the pages show. Newest first, random draws last.",
            always=True,
        )
    chain = lineage(workspace, done, score=score, select=select) if done else Lineage()
    view = View(
        workspace=workspace, recipe=recipe or "", done=done, chain=chain, score=score, select=select
    )
    st.session_state["_view"] = view
    with top:
        badge(view)
    return view


def _choose(
    label: str, options: list[str], *, key: str, help_text: str, always: bool = False
) -> str | None:
    """A select box, or the only option without one (unless `always`); kept in the address."""
    if not options:
        write_to_url(key, None)
        return None
    read_from_url(key, options, short_label)
    choice = st.session_state[key]
    if len(options) > 1 or always:
        choice = st.selectbox(label, options, key=key, help=help_text, format_func=short_label)
    write_to_url(key, choice, short_label)
    return choice


def _learned_first(done: dict[str, Artifact], labels: list[str]) -> list[str]:
    """Newest first; scores of learned estimators, the method's own, before other measures."""
    newest_first = labels[::-1]
    return sorted(newest_first, key=lambda n: "estimator" not in done[n].manifest["parents"])


def short_label(label: str) -> str:
    """`select.top` -> `top`; an unnamed instance keeps the stage's name."""
    return label.partition(".")[2] or label
