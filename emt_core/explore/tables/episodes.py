"""Robot episodes for a page: the list, instructions, camera frames and curves.

At most MAX_FRAMES frames of an episode are decoded, at FRAME_PX pixels a side, through the
workspace's thumbnail cache. Decoding that takes too long stops; decoded frames stay in the cache.
"""

from __future__ import annotations

import io
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from emt_core.data.images.thumbnails import thumbnail
from emt_core.data.index import SourceRange
from emt_core.data.readers.annotation import Annotation
from emt_core.data.readers.conversation import RowProblem
from emt_core.data.readers.robot_episodes import evenly_spaced
from emt_core.data.readers.robot_set import RobotSet, Steps
from emt_core.errors import EmtError
from emt_core.workspace.artifact import Workspace

MAX_FRAMES = 120
FRAME_PX = 256
DECODE_SECONDS = 20.0
MAX_DIMENSIONS = 32


@dataclass(frozen=True)
class EpisodeLine:
    """One line of the episode list."""

    index: int
    length: int
    """Frames."""

    instruction: str


def list_episodes(robot: RobotSet) -> list[EpisodeLine]:
    """The episodes that the source reads. Raises EmtError where there is no such data set."""
    return [
        EpisodeLine(episode.index, episode.length, " / ".join(episode.tasks))
        for episode in robot.episodes()
    ]


def curve_names(robot: RobotSet) -> list[str]:
    """Numeric features, those of the action first."""
    return sorted(
        robot.columns,
        key=lambda name: (name not in robot.actions, not name.startswith("action"), name),
    )


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
    fps: float | None
    """Frames a second; None where the files do not say."""

    seconds: np.ndarray
    """float64 [frames]: time since the first frame; the frame's number where the files do not say.
    """

    shown: np.ndarray
    """int64: the frames to decode, evenly spaced, with the first and the last."""

    instructions: tuple[tuple[int, str], ...]
    """(first frame, instruction from there on)."""

    annotations: tuple[Annotation, ...]
    """What is said of it beside its instruction, by frame."""

    robot: RobotSet
    steps: Steps

    @property
    def frames(self) -> int:
        return len(self.seconds)

    def curves(self, name: str) -> Curves:
        """Raises EmtError where the episode lacks the feature or it holds no numbers."""
        try:
            values = self.steps.values(name)
        except RowProblem as problem:
            raise EmtError(problem.detail) from problem
        names = _labels(name, self.robot, values.shape[1])
        kept = min(values.shape[1], MAX_DIMENSIONS)
        return Curves(name, names[:kept], values[:, :kept], values.shape[1] - kept)


def open_episode(robot: RobotSet, index: int, *, max_frames: int = MAX_FRAMES) -> Playback:
    """Raises EmtError where there is no such episode, or its data file is missing or broken."""
    episode = robot.find(index)
    try:
        steps = robot.open(episode)
    except RowProblem as problem:
        raise EmtError(problem.detail, where=robot.data) from problem
    fps = robot.fps
    seconds = np.asarray(steps.seconds)
    if fps is None:
        seconds = np.arange(episode.length, dtype=np.float64)
    tasks = np.asarray(steps.instruction)
    changed = np.r_[True, tasks[1:] != tasks[:-1]][: len(tasks)]
    starts = np.flatnonzero(changed)
    return Playback(
        index=index,
        fps=fps,
        seconds=seconds - (seconds[0] if len(seconds) else 0.0),
        shown=evenly_spaced(episode.length, max_frames),
        instructions=tuple((int(at), steps.instructions[tasks[at]]) for at in starts),
        annotations=_annotations(steps),
        robot=robot,
        steps=steps,
    )


def said_of(robot: RobotSet, episode: int) -> tuple[Annotation, ...]:
    """All that is said of an episode beside its instruction, or what keeps it from being read."""
    try:
        return _annotations(robot.open(robot.find(episode)))
    except (EmtError, RowProblem) as error:
        return (_unread(error),)


def _annotations(steps: Steps) -> tuple[Annotation, ...]:
    try:
        return tuple(steps.annotations())
    except EmtError as error:
        return (_unread(error),)


def _unread(error: EmtError | RowProblem) -> Annotation:
    problem = error.detail if isinstance(error, RowProblem) else error.what
    return Annotation(style="annotations", frame=0, text="", problem=problem)


def annotation_rows(playback: Playback) -> list[dict[str, Any]]:
    """A line for each annotation, as the player's table shows it."""
    lines = [
        {
            "Frame": said.frame,
            "Kind": said.style if said.lasts else f"{said.style}, {said.role}",
            "Camera": said.camera.rpartition(".")[2],
            "Text": said.problem or said.text or "(ends)",
        }
        for said in playback.annotations
    ]
    if not any(line["Camera"] for line in lines):
        lines = [{k: v for k, v in line.items() if k != "Camera"} for line in lines]
    return lines


def strip(
    workspace: Workspace,
    place: SourceRange,
    playback: Playback,
    *,
    seconds: float = DECODE_SECONDS,
    size: int = FRAME_PX,
) -> list[bytes]:
    """The frames to show as JPEG, by the source's first camera.

    Fewer where decoding takes longer than `seconds`.

    place: the source's range in the index. A frame that cannot be decoded is gray. Raises EmtError
    where times do not tell which frames they are.
    """
    camera = playback.robot.source.all_cameras[0]
    try:
        refs = [playback.steps.image(camera, int(frame)) for frame in playback.shown]
    except RowProblem as problem:
        raise EmtError(problem.detail, where=place.root) from problem
    pictures = []
    began = time.monotonic()
    for ref in refs:
        pictures.append(_jpeg(thumbnail(workspace, place, ref, size=size)))
        if time.monotonic() - began > seconds:
            break
    return pictures


def _jpeg(content: bytes) -> bytes:
    encoded = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(encoded, "JPEG", quality=78)
    return encoded.getvalue()


def _labels(feature: str, robot: RobotSet, count: int) -> tuple[str, ...]:
    """Names of a feature's dimensions, `feature[i]` where the set has none."""
    with suppress(EmtError):
        names = robot.dimensions(feature)
        if len(names) == count and names != tuple(map(str, range(count))):
            return names
    return (feature,) if count == 1 else tuple(f"{feature}[{i}]" for i in range(count))
