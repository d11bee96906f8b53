"""How much the results can show: episodes, the width of their interval, length of training."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from emt_core.evaluation.comparison.arms import Arm
from emt_core.evaluation.comparison.training import Trained, trained
from emt_core.explore import numbers
from emt_core.workspace.artifact import Workspace


def how_sure(workspace: Workspace, arms: Sequence[Arm]) -> None:
    """A caption on the episodes and one on the training; the latter not for imported policies."""
    st.caption(episodes_say(arms))
    runs = [trained(workspace, run) for arm in arms for run in arm.runs]
    known = [run for run in runs if run]
    if known:
        st.caption(training_says(min(known, key=lambda run: run.frames)))


def episodes_say(arms: Sequence[Arm]) -> str:
    """`12 episodes: the 95 % interval is 49 points wide. ...` of the arm with the widest."""
    widths = [
        (arm.high - arm.low, arm) for arm in arms if arm.high is not None and arm.low is not None
    ]
    if not widths:
        return "No episode was played to its end: the simulator failed in all of them, twice."
    width, widest = max(widths, key=lambda found: found[0])
    points = 100 * width
    per_arm = " per arm" if len(arms) > 1 else ""
    episodes = f"{numbers.counted(widest.episodes, 'episode')}{per_arm}"
    interval = f"{episodes}: the 95 % interval is {points:.0f} points wide."
    if len(arms) > 1:
        return (
            f"{interval} Smaller differences between arms are not meaningful unless the paired "
            "comparison below finds them."
        )
    return f"{interval} Differences from another policy smaller than this are not meaningful."


def training_says(run: Trained) -> str:
    """How long the policy was trained, and how long in the paper where that is longer."""
    here = f"Policy of step {run.step:,} of {run.steps:,}, trained on {run.frames:,} frames."
    if run.frames >= run.paper_frames:
        return here
    return (
        f"{here} The paper fine-tunes for {run.paper_steps:,} steps, {run.paper_frames:,} frames: "
        "a much shorter run shows that everything works, not how good a policy gets."
    )
