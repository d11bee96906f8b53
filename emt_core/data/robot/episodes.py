"""Actions, references and instructions of a robot set, episode by episode: what is trained on.

Nothing is decoded here. Dimensions have names: those that the set's files give, qualified
(`action/x`) where two columns share one, else their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emt_core.data.readers.conversation import RowProblem
from emt_core.data.readers.robot_set import Episode, RobotSet


@dataclass(frozen=True, kw_only=True)
class EpisodeActions:
    """One episode of T frames. problem: (reason, detail) where it cannot be trained on."""

    episode: Episode
    actions: np.ndarray
    """float32 [T, A], the data set's unit."""
    reference: np.ndarray | None
    """float32 [T, R], where a reference column was asked for."""
    instructions: tuple[str, ...]
    """Different instructions of the episode."""
    instruction: np.ndarray
    """int64 [T]: place in `instructions`."""
    problem: tuple[str, str] | None = None


def dimension_names(robot: RobotSet, columns: Sequence[str]) -> tuple[str, ...]:
    """Names of the dimensions of `columns` side by side. Raises EmtError for no number vector."""
    found = [(column, name) for column in columns for name in robot.dimensions(column)]
    plain = [name for _, name in found]
    return tuple(name if plain.count(name) == 1 else f"{column}/{name}" for column, name in found)


def read_episodes(
    robot: RobotSet, columns: Sequence[str], *, reference: str | None = None
) -> Iterator[EpisodeActions]:
    """The chosen episodes in order; one without frames or files that can be read has a problem.

    Raises EmtError for columns that no episode has.
    """
    width = len(dimension_names(robot, columns))
    for episode in robot.episodes():
        try:
            if not episode.length and episode.problem is None:
                raise RowProblem("empty_episode", "no frames")
            yield _episode(robot, episode, columns, reference)
        except RowProblem as problem:
            yield EpisodeActions(
                episode=episode,
                actions=np.empty((0, width), np.float32),
                reference=None,
                instructions=(),
                instruction=np.empty(0, np.int64),
                problem=(problem.reason, problem.detail),
            )


def _episode(
    robot: RobotSet, episode: Episode, columns: Sequence[str], reference: str | None
) -> EpisodeActions:
    """Raises RowProblem where the episode cannot be trained on."""
    steps = robot.open(episode)
    actions = np.concatenate([_floats(steps.values(name)) for name in columns], axis=1)
    states = _floats(steps.values(reference)) if reference else None
    texts = tuple(text.strip() for text in steps.instructions)
    if not all(texts):
        frame = int(np.flatnonzero(steps.instruction == texts.index(""))[0])
        raise RowProblem("empty_text", f"frame {frame} {steps.no_instruction(frame)}")
    if not np.isfinite(actions).all() or (states is not None and not np.isfinite(states).all()):
        raise RowProblem("non_finite_action", "an action or state is NaN or infinite")
    return EpisodeActions(
        episode=episode,
        actions=actions,
        reference=states,
        instructions=texts,
        instruction=np.asarray(steps.instruction),
    )


def _floats(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)
