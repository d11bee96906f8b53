"""Frames that probes are asked about, and what the right answers are. No picture is decoded here.

An episode is the unit: it is drawn, held out and resampled whole, because its frames are alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emt_core.data.draws import choose
from emt_core.data.readers.conversation import RowProblem
from emt_core.data.readers.robot_set import Episode, RobotSet
from emt_core.data.sample import ImageRef
from emt_core.errors import EmtError

ACTION = "action"
HAND = "hand"
OBJECTS = "objects"


@dataclass(frozen=True, kw_only=True)
class AskedEpisode:
    """One episode, T of whose frames are asked about."""

    set: RobotSet
    index: int
    """Its number in the set."""

    seen: bool
    """Whether it is of the sets that probes learn from."""

    task: str
    images: tuple[ImageRef, ...]
    instructions: tuple[str, ...]
    """Of each frame."""

    targets: Mapping[str, np.ndarray]
    """float32 [T, D] by target: `action` (a chunk's numbers side by side), `hand`, `objects`."""

    @property
    def camera(self) -> str:
        return self.set.source.all_cameras[0]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """E episodes with N frames in all."""

    episodes: tuple[AskedEpisode, ...]
    rejects: tuple[dict[str, Any], ...]
    """`{"set", "episode", "reason", "detail"}` of each episode that cannot be asked about."""

    @property
    def episode_of(self) -> np.ndarray:
        """int64 [N]: place of each frame's episode in `episodes`."""
        counts = [len(episode.images) for episode in self.episodes]
        return np.repeat(np.arange(len(counts)), counts)

    @property
    def names(self) -> tuple[str, ...]:
        """The targets that every episode has."""
        if not self.episodes:
            return ()
        first = self.episodes[0].targets
        return tuple(n for n in first if all(n in e.targets for e in self.episodes))

    def target(self, name: str) -> np.ndarray:
        """float32 [N, D]."""
        return np.concatenate([episode.targets[name] for episode in self.episodes])


def read_asked(
    seen: Sequence[RobotSet],
    unseen: Sequence[RobotSet],
    columns: Mapping[str, Sequence[str]],
    *,
    episodes: int,
    frames: int,
    chunk: int,
    seed: int,
    task_of: Mapping[str, str],
) -> Asked:
    """Draw episodes and read their numbers.

    columns: target -> columns of the sets. episodes: at most so many of `seen`, and of `unseen`.
    frames: of an episode. task_of: instruction -> task, where several words mean one; without an
    entry the instruction is the task. Raises EmtError where fewer than two episodes of `seen` can
    be asked about.
    """
    found: list[AskedEpisode] = []
    rejects: list[dict[str, Any]] = []
    for known, sets in ((True, seen), (False, unseen)):
        for robot, episode in _drawn(sets, episodes, seed):
            try:
                entry = _episode(robot, episode, columns, frames, chunk, known, task_of)
            except RowProblem as problem:
                name = robot.source.name
                rejects.append(
                    {
                        "set": name,
                        "episode": episode.index,
                        "reason": problem.reason,
                        "detail": problem.detail,
                    }
                )
            else:
                found.append(entry)
    if sum(episode.seen for episode in found) < 2:
        raise EmtError(
            f"fewer than two episodes can be asked about ({len(rejects)} are left out)",
            where="probe.data",
            remedy=_remedy(rejects),
        )
    return Asked(episodes=tuple(found), rejects=tuple(rejects))


def _remedy(rejects: Sequence[Mapping[str, Any]]) -> str:
    if not rejects:
        return "name a set with more episodes"
    first = rejects[0]
    return f"the first of them, {first['set']} {first['episode']}: {first['detail']}"


def _drawn(sets: Sequence[RobotSet], most: int, seed: int) -> list[tuple[RobotSet, Episode]]:
    every = [(robot, episode) for robot in sets for episode in robot.episodes()]
    rows = choose(np.arange(len(every)), most, (seed, len(every)))
    chosen = [every[int(row)] for row in rows]
    return [
        (robot, episode)
        for robot in sets
        for episode in robot.with_files([e for owner, e in chosen if owner is robot])
    ]


def _episode(
    robot: RobotSet,
    episode: Episode,
    columns: Mapping[str, Sequence[str]],
    frames: int,
    chunk: int,
    seen: bool,
    task_of: Mapping[str, str],
) -> AskedEpisode:
    """Raises RowProblem where the episode cannot be read or is shorter than a chunk."""
    steps = robot.open(episode)
    last = episode.length - chunk
    if last < 0:
        detail = f"{episode.length} frames, fewer than a chunk of {chunk}"
        raise RowProblem("empty_episode", detail)
    rows = np.unique(np.linspace(0, last, frames).round().astype(np.int64))
    texts = [text.strip() for text in steps.instructions]
    if not all(texts):
        raise RowProblem("empty_text", "a frame without an instruction")
    targets = {
        name: _numbers(steps, named, rows, chunk if name == ACTION else 1)
        for name, named in columns.items()
    }
    words = tuple(texts[int(steps.instruction[row])] for row in rows)
    return AskedEpisode(
        set=robot,
        index=episode.index,
        seen=seen,
        task=task_of.get(words[0], words[0]),
        images=tuple(steps.image(robot.source.all_cameras[0], int(row)) for row in rows),
        instructions=words,
        targets=targets,
    )


def _numbers(steps: Any, columns: Sequence[str], rows: np.ndarray, ahead: int) -> np.ndarray:
    """float32 [rows, ahead x D]: the columns' numbers of each row and those that follow."""
    values = np.concatenate([steps.values(column) for column in columns], axis=1)
    if not np.isfinite(values).all():
        raise RowProblem("non_finite_action", f"{', '.join(columns)}: NaN or infinite")
    taken = values[rows[:, None] + np.arange(ahead)]
    return taken.reshape(len(rows), -1).astype(np.float32)
