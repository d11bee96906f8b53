"""All frames of a fine-tuning: actions in memory (4 bytes a number), pixels in the frame cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emt_core.data.readers.robot_set import RobotSet
from emt_core.data.robot.actions import ActionMap, Block, find_dimensions, fit_action_map
from emt_core.data.robot.episodes import EpisodeActions, dimension_names, read_episodes
from emt_core.data.robot.frame_cache import FrameCache
from emt_core.errors import EmtError
from emt_core.recipe.finetune import ActionConfig


@dataclass(frozen=True, kw_only=True)
class OpenedSet:
    """One data set's usable episodes, in order."""

    robot: RobotSet
    names: tuple[str, ...]
    reference_names: tuple[str, ...]
    episodes: list[EpisodeActions]
    rejects: list[dict[str, Any]]
    """`{"set", "episode", "reason", "detail"}` of each episode that cannot be trained on."""

    @property
    def name(self) -> str:
        return self.robot.source.name


def open_set(robot: RobotSet, action: ActionConfig) -> OpenedSet:
    """Read every episode's actions. Raises EmtError for no usable episode or a missing column."""
    names, reference_names = names_of_set(robot, action)
    good = []
    rejects = []
    for episode in read_episodes(
        robot, action.columns, reference=action.reference_column if reference_names else None
    ):
        if episode.problem is None:
            good.append(episode)
        else:
            rejects.append(reject(robot.source.name, episode.episode.index, *episode.problem))
    _check_usable(robot, good, rejects)
    return OpenedSet(
        robot=robot,
        names=names,
        reference_names=reference_names,
        episodes=good,
        rejects=rejects,
    )


def names_of_set(robot: RobotSet, action: ActionConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Dimensions of the action and, for kind delta, of its reference; no episode is gone through.

    Raises EmtError for a camera or column that is not there.
    """
    robot.check_cameras()
    reference = [action.reference_column] if action.kind == "delta" else []
    return dimension_names(robot, action.columns), dimension_names(robot, reference)


def check_action(sets: Sequence[RobotSet], action: ActionConfig) -> None:
    """Raises EmtError where the sets' metadata show that the settings of actions do not fit."""
    found = [(robot, *names_of_set(robot, action)) for robot in sets]
    _check_same_robot(found)
    robot, names, reference_names = found[0]
    find_dimensions(action, names, reference_names, where=robot.data)


def _check_same_robot(
    found: Sequence[tuple[RobotSet, tuple[str, ...], tuple[str, ...]]],
) -> None:
    first, *names = found[0]
    for robot, *others in found[1:]:
        if others != names:
            raise EmtError(
                f"{robot.source.name!r} and {first.source.name!r} have different actions: "
                f"{', '.join(others[0])} and {', '.join(names[0])}",
                where=robot.data,
                remedy="fine-tune on sets of one robot",
            )


def reject(set_name: str, episode: int, reason: str, detail: str) -> dict[str, Any]:
    return {"set": set_name, "episode": episode, "reason": reason, "detail": detail}


def _check_usable(
    robot: RobotSet, good: Sequence[EpisodeActions], rejects: Sequence[dict[str, Any]]
) -> None:
    if not good:
        reasons = Counter(entry["reason"] for entry in rejects).most_common(3)
        told = ", ".join(f"{reason} {count:,}" for reason, count in reasons) or "it has none"
        raise EmtError(
            f"no episode of {robot.source.name!r} can be trained on ({told})", where=robot.data
        )


def fit_map(sets: Sequence[OpenedSet], action: ActionConfig, chunk: int) -> ActionMap:
    """One action map for all sets. Raises EmtError for different actions or a missing dimension."""
    first = sets[0]
    _check_same_robot([(one.robot, one.names, one.reference_names) for one in sets])

    def blocks() -> Iterator[Block]:
        for opened in sets:
            for episode in opened.episodes:
                yield from _chunk_blocks(episode, chunk if action.kind == "delta" else 1)

    return fit_action_map(
        action, first.names, first.reference_names, blocks, where=first.robot.data
    )


def _chunk_blocks(episode: EpisodeActions, chunk: int) -> Iterator[Block]:
    """Every (action, reference) pair that a chunk can hold: a block for each of its steps."""
    for ahead in range(min(chunk, len(episode.actions))):
        reference = episode.reference
        yield (
            episode.actions[ahead:],
            reference[: len(reference) - ahead] if reference is not None else None,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingFrames:
    """N frames, set after set, episode after episode."""

    actions: np.ndarray
    """float32 [N, A], the data set's unit."""
    reference: np.ndarray | None
    """float32 [N, R]."""
    stop: np.ndarray
    """int64 [N]: the row behind the last one of the frame's episode."""
    instruction: np.ndarray
    """int32 [N]: place in `texts`."""
    texts: tuple[str, ...]
    place: np.ndarray
    """int16 [N]: which cache."""
    cache_row: np.ndarray
    """int64 [N]: row in that cache."""
    caches: tuple[FrameCache, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.actions)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [n, size, size, 3]."""
        size = self.caches[0].size
        found = np.empty((len(rows), size, size, 3), np.uint8)
        for number, cache in enumerate(self.caches):
            here = np.flatnonzero(self.place[rows] == number)
            found[here] = cache.pixels(self.cache_row[rows[here]])
        return found

    def valid_steps(self, rows: np.ndarray, chunk: int) -> int:
        """How many of the rows' chunk steps lie inside their episodes."""
        return int(np.minimum(self.stop[rows] - rows, chunk).sum())

    def chunks(
        self, rows: np.ndarray, chunk: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(actions float32 [n, chunk, A], valid bool [n, chunk], reference [n, R] or None).

        Steps behind an episode's end repeat its last action and are not valid: nothing is learned
        from them.
        """
        ahead = rows[:, None] + np.arange(chunk)
        valid = ahead < self.stop[rows][:, None]
        actions = self.actions[np.minimum(ahead, self.stop[rows][:, None] - 1)]
        return actions, valid, self.reference[rows] if self.reference is not None else None


def join_frames(
    sets: Sequence[OpenedSet], caches: Sequence[FrameCache]
) -> tuple[TrainingFrames, list[dict[str, Any]]]:
    """Frames whose pixels are there, and the rejects of all sets, undecodable episodes among them.

    Raises EmtError where a set has no decodable episode.
    """
    texts: dict[str, int] = {}
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("actions", "reference", "stop", "instruction", "place", "row")
    }
    rejects: list[dict[str, Any]] = []
    total = 0
    for number, (opened, cache) in enumerate(zip(sets, caches, strict=True)):
        undecodable = [
            reject(opened.name, index, *problem) for index, problem in cache.problems.items()
        ]
        found = [*opened.rejects, *undecodable]
        good = [
            episode for episode in opened.episodes if episode.episode.index not in cache.problems
        ]
        _check_usable(opened.robot, good, found)
        rejects += found
        for episode in good:
            length = len(episode.actions)
            known = np.array(
                [texts.setdefault(text, len(texts)) for text in episode.instructions], np.int32
            )
            parts["actions"].append(episode.actions)
            if episode.reference is not None:
                parts["reference"].append(episode.reference)
            parts["stop"].append(np.full(length, total + length, np.int64))
            parts["instruction"].append(known[episode.instruction])
            parts["place"].append(np.full(length, number, np.int16))
            parts["row"].append(
                cache.first[episode.episode.index] + np.arange(length, dtype=np.int64)
            )
            total += length
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items() if arrays}
    frames = TrainingFrames(
        actions=joined["actions"],
        reference=joined.get("reference"),
        stop=joined["stop"],
        instruction=joined["instruction"],
        texts=tuple(texts),
        place=joined["place"],
        cache_row=joined["row"],
        caches=tuple(caches),
    )
    return frames, rejects


class FrameOrder:
    """Which frames a step trains on: every frame once an epoch, in an order that the seed decides.

    rows(step) depends on nothing else, so a resumed run goes on with the batch that comes next.
    """

    def __init__(self, frames: int, batch: int, seed: int) -> None:
        self.frames = frames
        self.batch = batch
        self.seed = seed
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def rows(self, step: int) -> np.ndarray:
        """int64 [batch] of step 0, 1, ..."""
        found = []
        at = step * self.batch
        left = self.batch
        while left:
            epoch, offset = divmod(at, self.frames)
            part = self._of(epoch)[offset : offset + left]
            found.append(part)
            at += len(part)
            left -= len(part)
        return np.concatenate(found)

    def _of(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.frames)
        return self._order
