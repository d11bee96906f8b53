"""Which numbers of a simulator's state a policy's actions of kind delta are measured from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.base import Benchmark

if TYPE_CHECKING:
    from emt_core.data.robot.actions import ActionMap

STATE_COLUMN = "observation.state"
"""LeRobot's word for the robot's state: the one column that a simulator can stand in for."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """From a simulator's state [S] to the vector [R] that a policy's actions are measured from."""

    title: str
    wide: int
    """S."""
    places: tuple[int | None, ...]
    """For each of the R dimensions its place in the state; None: not used by the policy, given
    0."""

    def of(self, states: Sequence[np.ndarray | None]) -> np.ndarray:
        """float32 [n, R]. Raises EmtError for another state than the benchmark promises."""
        for state in states:
            if state is None or state.shape != (self.wide,):
                raise EmtError(
                    f"the simulator of {self.title} tells a state of shape "
                    f"{None if state is None else state.shape}, "
                    f"not ({self.wide},)",
                    where="evaluate.benchmark",
                )
        found = np.zeros((len(states), len(self.places)), np.float32)
        for place, source in enumerate(self.places):
            if source is not None:
                found[:, place] = [state[source] for state in states if state is not None]
        return found


def delta_map(policy: Any) -> ActionMap | None:
    """The action map of a policy whose actions are measured from a state, else None."""
    action_map = getattr(getattr(policy, "spec", None), "action_map", None)
    return action_map if action_map is not None and action_map.delta else None


def reference_for(policy: Any, benchmark: Benchmark) -> Reference | None:
    """None where the policy's actions are measured from nothing.

    Raises EmtError, before any simulator is started, where they are measured from what the
    benchmark does not tell.
    """
    action_map = delta_map(policy)
    if action_map is None:
        return None
    names = action_map.reference_names
    used = [names[place] if names else f"dimension {place}" for place in action_map.reference]
    lacking = [name for name in used if benchmark.state.count(name) != 1]
    if action_map.reference_column != STATE_COLUMN or lacking:
        raise EmtError(
            f"the policy's actions are measured from {action_map.reference_column!r} "
            f"({', '.join(used)}), which "
            f"{benchmark.title} does not tell",
            where="evaluate.benchmark",
            remedy=f"it tells {STATE_COLUMN}: {', '.join(benchmark.state) or 'nothing'}; fine-tune "
            "with action.kind "
            "`recorded`, or on a set that names its state so",
        )
    places = tuple(benchmark.state.index(name) if name in used else None for name in names)
    return Reference(title=benchmark.title, wide=len(benchmark.state), places=places)
