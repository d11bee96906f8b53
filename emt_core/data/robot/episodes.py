"""Actions, references and instructions of a LeRobot set, episode by episode, each file read once.

Nothing is decoded here. Dimensions have names: those of meta/info.json, qualified (`action/x`)
where two columns share one, else their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.data.readers.lerobot import number_column, number_matrix, read_columns
from emt_core.data.readers.lerobot_meta import Episode, LeRobotMeta, load_meta
from emt_core.data.readers.robot_episodes import picked
from emt_core.errors import EmtError
from emt_core.recipe.finetune import RobotData


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


def dimension_names(meta: LeRobotMeta, columns: Sequence[str]) -> tuple[str, ...]:
    """Names of the dimensions of `columns` side by side. Raises EmtError for no number vector."""
    found: list[tuple[str, str]] = []
    for column in columns:
        feature = meta.info["features"].get(column)
        if not isinstance(feature, dict) or not str(feature.get("dtype", "")).startswith(
            ("float", "int", "bool")
        ):
            vectors = [
                name
                for name, f in meta.info["features"].items()
                if isinstance(f, dict) and f.get("shape")
            ]
            raise EmtError(
                f"there is no numeric feature {column!r}",
                where=meta.root,
                remedy=f"features: {', '.join(vectors)}",
            )
        shape = feature.get("shape") or [1]
        if not isinstance(shape, list) or len(shape) != 1 or not isinstance(shape[0], int):
            raise EmtError(f"feature {column!r} has shape {shape}, not [n]", where=meta.root)
        names = _flat_names(feature.get("names"))
        size = shape[0]
        found += [
            (column, name) for name in (names if len(names) == size else map(str, range(size)))
        ]
    plain = [name for _, name in found]
    return tuple(name if plain.count(name) == 1 else f"{column}/{name}" for column, name in found)


def _flat_names(names: Any) -> list[str]:
    """v2 sets have `{"motors": [...]}` as often as a list."""
    if isinstance(names, dict):
        names = [
            name for part in names.values() for name in (part if isinstance(part, list) else [part])
        ]
    return [str(name) for name in names] if isinstance(names, list) else []


def read_episodes(
    data: RobotData, root: Path, columns: Sequence[str], *, reference: str | None = None
) -> Iterator[EpisodeActions]:
    """The chosen episodes in the table's order; one without frames or data file has a problem.

    Raises EmtError where files and metadata disagree.
    """
    meta = load_meta(root)
    width = len(dimension_names(meta, columns))
    for path, group in groupby(episodes_of(data, meta), key=lambda episode: episode.data):
        there = (root / path).is_file()
        mine = []
        for episode in group:
            if episode.length and there:
                mine.append(episode)
            else:
                yield _without_frames(episode, width)
        if not mine:
            continue
        table = read_columns(
            root / path,
            ["episode_index", "task_index", *columns, *([reference] if reference else [])],
        )
        owner = number_column(table, "episode_index", root / path)
        task = number_column(table, "task_index", root / path)
        actions = np.concatenate([_floats(table, name, root / path) for name in columns], axis=1)
        if len(actions) and actions.shape[1] != width:
            raise EmtError(
                f"actions have {actions.shape[1]} dimensions, meta/info.json promises {width}",
                where=root / path,
            )
        states = _floats(table, reference, root / path) if reference else None
        for episode in mine:
            rows = np.flatnonzero(owner == episode.index)
            if len(rows) != episode.length:
                raise EmtError(
                    f"episode {episode.index} has {len(rows)} rows in its data file and "
                    f"{episode.length} in the "
                    "episodes table",
                    where=root / path,
                    remedy="the download may be incomplete",
                )
            yield _episode(
                meta,
                episode,
                actions[rows],
                states[rows] if states is not None else None,
                task[rows],
            )


def episodes_of(data: RobotData, meta: LeRobotMeta) -> Iterator[Episode]:
    """The episodes that are trained on, in the tables' order."""
    return picked(data, meta.episodes([data.camera]), attrgetter("index"), meta.root)


def _without_frames(episode: Episode, width: int) -> EpisodeActions:
    """An episode that the table counts no frames of, or whose data file does not exist."""
    problem = ("empty_episode", "no frames")
    if episode.length:
        problem = ("missing_file", f"{episode.data} does not exist")
    return EpisodeActions(
        episode=episode,
        actions=np.empty((0, width), np.float32),
        reference=None,
        instructions=(),
        instruction=np.empty(0, np.int64),
        problem=problem,
    )


def _episode(
    meta: LeRobotMeta,
    episode: Episode,
    actions: np.ndarray,
    reference: np.ndarray | None,
    task: np.ndarray,
) -> EpisodeActions:
    tasks, instruction = np.unique(task, return_inverse=True)
    texts = tuple(meta.tasks.get(int(index), "").strip() for index in tasks)
    problem = None
    if not all(texts):
        lacking = int(tasks[texts.index("")])
        problem = ("empty_text", f"task {lacking} has no instruction in the task table")
    elif not np.isfinite(actions).all() or (
        reference is not None and not np.isfinite(reference).all()
    ):
        problem = ("non_finite_action", "an action or state is NaN or infinite")
    return EpisodeActions(
        episode=episode,
        actions=actions,
        reference=reference,
        instructions=texts,
        instruction=instruction,
        problem=problem,
    )


def _floats(table: Any, column: str, where: Path) -> np.ndarray:
    return number_matrix(table, column, where).astype(np.float32)
