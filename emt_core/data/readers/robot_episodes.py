"""What readers of robot episodes share: which episodes, which frames, which pictures of a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np

from emt_core.errors import EmtError, one_line
from emt_core.recipe.ranges import format_ranges, parse_ranges
from emt_core.recipe.sources import EpisodeChoice, EpisodeSource

E = TypeVar("E")


def picked(
    choice: EpisodeChoice, episodes: Iterable[E], number_of: Callable[[E], int], where: object
) -> Iterator[E]:
    """The episodes that are read, in the given order: those of `episodes`, at most `limit`.

    Raises EmtError for one that is asked for and not there, with those that are.
    """
    if choice.episodes:
        there = list(episodes)
        numbers = np.array([number_of(episode) for episode in there], np.int64)
        wanted = np.zeros(len(there), bool)
        for first, last in parse_ranges(choice.episodes):
            _check_there(choice.name, first, last, np.unique(numbers), where)
            wanted |= (first <= numbers) & (numbers <= last)
        episodes = [there[place] for place in np.flatnonzero(wanted)]
    return islice(iter(episodes), choice.limit)


def _check_there(name: str, first: int, last: int, numbers: np.ndarray, where: object) -> None:
    """numbers: int64, rising, of the episodes that there are."""
    inside = numbers[np.searchsorted(numbers, first) : np.searchsorted(numbers, last, "right")]
    if len(inside) == last - first + 1:
        return
    gaps = np.flatnonzero(inside != first + np.arange(len(inside)))
    missing = first + int(gaps[0] if len(gaps) else len(inside))
    raise EmtError(
        f"{name!r} has no episode {missing}, which `episodes` asks for",
        where=where,
        remedy=f"its episodes are {one_line(format_ranges(numbers), 200) or 'none'}",
    )


def evenly_spaced(length: int, wanted: int) -> np.ndarray:
    """int64 [min(length, wanted)]: frame numbers from the first to the last, both included."""
    return (
        np.unique(np.linspace(0, length - 1, min(length, wanted)).round().astype(np.int64))
        if length > 0
        else np.empty(0, np.int64)
    )


def views_of(source: EpisodeSource) -> tuple[tuple[str, ...], ...]:
    """The cameras of each sample that a frame gives: ((a,), (b,)), or ((a, b),) for one tile."""
    if source.views == "tile":
        return (source.all_cameras,)
    return tuple((camera,) for camera in source.all_cameras)
