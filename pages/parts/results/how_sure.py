"""How much the figures above can say: episodes played, the width of their interval, how long training was."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from emt_core.evaluation.comparison.arms import Arm
from emt_core.evaluation.comparison.training import Trained, trained
from emt_core.explore import numbers
from emt_core.workspace.artifact import Workspace


def how_sure(workspace: Workspace, arms: Sequence[Arm]) -> None:
    """Two captions, from what was played and trained alone; no second one for a policy that came from elsewhere."""
    st.caption(episodes_say(arms))
    runs = [found for arm in arms for run in arm.runs if (found := trained(workspace, run))]
    if runs:
        st.caption(training_says(min(runs, key=lambda found: found.frames)))


def episodes_say(arms: Sequence[Arm]) -> str:
    """`12 episodes: the 95 % interval is 49 points wide. ...`, of the arm with the widest interval."""
    widest = max(arms, key=lambda arm: arm.high - arm.low)
    points = 100 * (widest.high - widest.low)
    played, each = numbers.counted(widest.episodes, "episode"), " an arm" if len(arms) > 1 else ""
    said = f"{played}{each}: the 95 % interval is {points:.0f} points wide."
    if len(arms) > 1:
        return f"{said} Smaller differences between arms mean nothing unless the paired comparison below finds them."
    return f"{said} A difference to another policy that is smaller than this means nothing."


def training_says(found: Trained) -> str:
    """How long the policy was trained; where the paper trains longer, how long that is."""
    said = f"The policy is that of step {found.step:,} of {found.steps:,}; it had seen {found.frames:,} frames."
    if found.frames >= found.paper_frames:
        return said
    return (
        f"{said} The paper fine-tunes for {found.paper_steps:,} steps, {found.paper_frames:,} frames: a much shorter "
        "run shows that everything works, not how good a policy gets."
    )
