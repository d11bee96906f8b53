"""Robot episodes for a page: the list, instructions, camera frames and curves.

At most MAX_FRAMES frames of an episode are decoded, at FRAME_PX pixels a side, through the
workspace's thumbnail cache. Decoding that takes too long stops; decoded frames stay in the cache.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from emt_core.data.images.thumbnails import thumbnail
from emt_core.data.index import SourceRange
from emt_core.data.readers.conversation import RowProblem
from emt_core.data.readers.lerobot import (
    episode_frames,
    episode_table,
    find_episode,
    number_matrix,
)
from emt_core.data.readers.lerobot_meta import load_meta
from emt_core.data.readers.robot_episodes import evenly_spaced, picked
from emt_core.errors import EmtError
from emt_core.recipe.sources import LeRobotSource
from emt_core.workspace.artifact import Workspace

MAX_FRAMES = 120
FRAME_PX = 256
DECODE_SECONDS = 20.0
MAX_DIMENSIONS = 32
BOOKKEEPING = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
NUMBERS = ("float", "int", "uint", "bool")


@dataclass(frozen=True)
class EpisodeLine:
    """One line of the episode list."""

    index: int
    length: int
    """Frames."""

    instruction: str


def list_episodes(source: LeRobotSource, root: Path) -> list[EpisodeLine]:
    """The episodes that the source reads. Raises EmtError where there is no LeRobot data set."""
    return [
        EpisodeLine(episode.index, episode.length, " / ".join(episode.tasks))
        for episode in picked(source, load_meta(root).episodes(()), attrgetter("index"), root)
    ]


def cameras(root: Path) -> list[str]:
    return list(load_meta(root).cameras)


def curve_names(root: Path) -> list[str]:
    """Numeric features, `action` first."""
    numeric = [
        name
        for name, feature in load_meta(root).info["features"].items()
        if isinstance(feature, dict)
        and str(feature.get("dtype")).startswith(NUMBERS)
        and name not in BOOKKEEPING
    ]
    return sorted(numeric, key=lambda name: (name != "action", not name.startswith("action"), name))


@dataclass(frozen=True)
class Curves:
    """A feature over the frames of an episode."""

    name: str
    dimensions: tuple[str, ...]
    """Names from the data set, else `name[i]`."""

    values: np.ndarray
    """float64 [frames, dimensions]; NaN where missing."""

    left_out: int = 0
    """Dimensions beyond MAX_DIMENSIONS."""


@dataclass(frozen=True)
class Playback:
    """An episode without its pixels."""

    index: int
    fps: float
    seconds: np.ndarray
    """float64 [frames]: time since the first frame."""

    shown: np.ndarray
    """int64: the frames to decode, evenly spaced, with the first and the last."""

    instructions: tuple[tuple[int, str], ...]
    """(first frame, instruction from there on)."""

    table: pa.Table

    @property
    def frames(self) -> int:
        return len(self.seconds)

    def curves(self, name: str, features: Mapping[str, Any]) -> Curves:
        """Raises EmtError where the data files lack the feature or it holds no numbers."""
        if name not in self.table.column_names:
            known = f"columns: {self.table.column_names}"
            raise EmtError(f"the data files have no column {name!r}", remedy=known)
        values = number_matrix(self.table, name)
        names = dimension_names(name, features.get(name) or {}, values.shape[1])
        kept = min(values.shape[1], MAX_DIMENSIONS)
        return Curves(name, names[:kept], values[:, :kept], values.shape[1] - kept)


def open_episode(
    source: LeRobotSource, root: Path, index: int, *, max_frames: int = MAX_FRAMES
) -> Playback:
    """Raises EmtError where there is no such episode, or its data file is missing or broken."""
    meta, episode = find_episode(source, root, index)
    table = episode_table(source, root, index)
    stamps = table.column("timestamp").to_numpy().astype(np.float64)
    tasks = table.column("task_index").to_numpy()
    changed = np.r_[True, tasks[1:] != tasks[:-1]][: len(tasks)]
    starts = np.flatnonzero(changed)
    return Playback(
        index=index,
        fps=meta.fps,
        seconds=stamps - (stamps[0] if len(stamps) else 0.0),
        shown=evenly_spaced(episode.length, max_frames),
        instructions=tuple((int(at), meta.tasks.get(int(tasks[at]), "")) for at in starts),
        table=table,
    )


def strip(
    workspace: Workspace,
    place: SourceRange,
    source: LeRobotSource,
    playback: Playback,
    *,
    seconds: float = DECODE_SECONDS,
    size: int = FRAME_PX,
) -> list[bytes]:
    """The frames to show as JPEG; fewer where decoding takes longer than `seconds`.

    place: the source's range in the index. A frame that cannot be decoded is gray. Raises EmtError
    where times do not tell which frames they are.
    """
    try:
        refs = episode_frames(source, place.root, playback.index)
    except RowProblem as problem:
        raise EmtError(problem.detail, where=place.root) from problem
    pictures = []
    began = time.monotonic()
    for frame in playback.shown:
        pictures.append(_jpeg(thumbnail(workspace, place, refs[int(frame)], size=size)))
        if time.monotonic() - began > seconds:
            break
    return pictures


def _jpeg(content: bytes) -> bytes:
    encoded = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(encoded, "JPEG", quality=78)
    return encoded.getvalue()


def dimension_names(feature: str, entry: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Names of dimensions; info.json has a list, {"motors": [...]}, {name: place}, or nothing."""
    names = entry.get("names")
    if isinstance(names, Mapping):
        inner = next(iter(names.values()), None)
        if isinstance(inner, Sequence) and not isinstance(inner, str):
            names = list(inner)
        else:
            places = {k: v for k, v in names.items() if isinstance(v, int)}
            names = sorted(places, key=places.__getitem__)
    if isinstance(names, Sequence) and not isinstance(names, str) and len(names) == count:
        return tuple(str(name) for name in names)
    return (feature,) if count == 1 else tuple(f"{feature}[{i}]" for i in range(count))
