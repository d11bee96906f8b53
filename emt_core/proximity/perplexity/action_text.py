"""Robot actions as text: an assistant's answer to the instruction (RT-2, Brohan et al. 2023).

Every dimension is cut into equal bins between its 1 % and 99 % quantiles, set by set; the answer is
the bin numbers, `127 0 255 12`. What lies outside the quantiles falls into the end bins.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from emt_core.data.index import Index, SourceRange
from emt_core.data.readers.robot_set import RobotSet
from emt_core.data.robot.read_sets import robot_set_of
from emt_core.data.sample import Sample, Turn
from emt_core.errors import EmtError

QUANTILES = (0.01, 0.99)
BIN_ROWS = 2000
"""Frames that a set's quantiles are taken from, at the most."""


class Actions:
    """Actions of robot frames by index row; the tables of the last few episodes are kept."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._tables: dict[tuple[str, int], np.ndarray] = {}
        self._sets: dict[str, RobotSet] = {}

    def of(self, sample: Sample) -> np.ndarray:
        """float64 [dims]. Raises EmtError where the source has no actions."""
        key = (sample.source, sample.episode)
        if key not in self._tables:
            if len(self._tables) > 64:
                self._tables.pop(next(iter(self._tables)))
            self._tables[key] = self._read(sample)
        return self._tables[key][sample.frame]

    def _read(self, sample: Sample) -> np.ndarray:
        source = next(s for s in self.index.sources if s.name == sample.source)
        robot = self._set_of(source)
        lacking = [name for name in robot.actions if name not in robot.columns]
        if lacking or not robot.actions:
            raise EmtError(
                f"robot source {source.name!r} has no column `{(lacking or ['action'])[0]}`",
                where=source.root,
                remedy=f"its columns are {', '.join(robot.columns)}",
            )
        steps = robot.open(robot.find(sample.episode))
        return np.concatenate([steps.values(name) for name in robot.actions], axis=1)

    def _set_of(self, source: SourceRange) -> RobotSet:
        """Raises EmtError where the source has no episodes."""
        if source.name not in self._sets:
            self._sets[source.name] = robot_set_of(self.index, source)
        return self._sets[source.name]


def bin_edges(actions: Actions, source: SourceRange, rows: np.ndarray, bins: int) -> np.ndarray:
    """float64 [dims, bins - 1]: inner edges. rows: index rows of the set's training part."""
    step = max(1, len(rows) // BIN_ROWS)
    values = np.array([actions.of(sample) for sample in actions.index.samples(rows[::step])])
    low, high = np.quantile(values, QUANTILES, axis=0)
    return np.linspace(low, np.where(high > low, high, low + 1), bins + 1, axis=1)[:, 1:-1]


def spoken(action: np.ndarray, edges: np.ndarray) -> str:
    """`127 0 255`: the bin of each dimension, from 0. action [dims], edges [dims, bins - 1]."""
    return " ".join(
        str(int(np.searchsorted(e, a, side="right"))) for a, e in zip(action, edges, strict=True)
    )


def with_answer(sample: Sample, text: str) -> Sample:
    return replace(sample, turns=(*sample.turns, Turn(role="assistant", text=text)))
