"""The states of a recipe's instances, cached so that every run of a page can ask."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from emt_core.errors import EmtError
from emt_core.explore.tables.headline import headline
from emt_core.run.checks import forecast
from emt_core.run.plan import Plan
from emt_core.run.plan_cache import PlanCache
from emt_core.run.status import InstanceStatus, plan_status
from emt_core.workspace.artifact import Workspace
from pages.parts.view import View

ICON = {
    "done": ":green[:material/check_circle:]",
    "running": ":blue[:material/progress_activity:]",
    "starting": ":blue[:material/progress_activity:]",
    "waiting": ":blue[:material/hourglass_top:]",
    "stopping": ":orange[:material/pending:]",
    "stale": ":orange[:material/history:]",
    "interrupted": ":orange[:material/pause_circle:]",
    "failed": ":red[:material/error:]",
    "lost": ":red[:material/error:]",
    "cancelled": ":gray[:material/cancel:]",
    "missing": ":gray[:material/radio_button_unchecked:]",
    "absent": ":gray[:material/add_circle:]",
}


@st.cache_resource(show_spinner=False)
def _plans() -> PlanCache:
    return PlanCache()


def plan_of(recipe_file: Path) -> Plan:
    """Raises EmtError where the recipe cannot be planned."""
    return _plans().plan(recipe_file)


def look_again(recipe_file: Path) -> None:
    """Plan again at the next call, because inputs on disk may have changed."""
    _plans().forget(recipe_file)
    _problems.clear()


def states_of(view: View) -> list[InstanceStatus]:
    """States of the recipe's instances, read from disk. Raises EmtError where planning fails."""
    assert view.recipe_file is not None
    return plan_status(plan_of(view.recipe_file), view.workspace)


@st.cache_data(max_entries=2048, show_spinner=False)
def _headline(workspace: str, stage: str, key: str) -> str:
    artifact = Workspace(Path(workspace)).find(stage, key)
    return headline(stage, artifact.metrics) if artifact else ""


def headlines_of(view: View, states: list[InstanceStatus]) -> dict[str, str]:
    """Label -> headline number, of finished instances."""
    workspace = str(view.workspace.path)
    return {s.label: _headline(workspace, s.stage, s.key) for s in states if s.state == "done"}


def problems_of(view: View, states: list[InstanceStatus]) -> tuple[EmtError, ...]:
    """What is known to stop stages that have not run, worked out again every ten minutes."""
    assert view.recipe_file is not None
    missing = tuple(state.key for state in states if state.state != "done")
    text = view.recipe_file.read_text(encoding="utf-8")
    return _problems(str(view.workspace.path), str(view.recipe_file), text, missing)


@st.cache_data(max_entries=64, ttl=600, show_spinner=False)
def _problems(
    workspace: str, recipe_file: str, text: str, missing: tuple[str, ...]
) -> tuple[EmtError, ...]:
    plan = plan_of(Path(recipe_file))
    instances = [instance for instance in plan.instances if instance.key in missing]
    return tuple(forecast(instances, plan.recipe, Workspace(Path(workspace))).problems)
