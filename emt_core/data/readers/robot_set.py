"""The episodes of a robot set, whatever its format: what stages, training and pages read them by.

A reader of robot episodes has `robot_set(source, data) -> RobotSet`; its rows then come from
`read_frames`. Frames are referred to, never decoded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.data.images.tiles import tiled
from emt_core.data.readers.annotation import Annotation
from emt_core.data.readers.conversation import RowProblem, build_sample, encodable, reject
from emt_core.data.readers.robot_episodes import evenly_spaced, picked, views_of
from emt_core.data.sample import ImageRef, Reject, Sample, Turn
from emt_core.errors import EmtError
from emt_core.recipe.sources import EpisodeSource

EDITS = {"none": "", "vertical": "v", "both": "vh"}
"""Setting `flip` -> ImageRef.edit."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode of a set, as its list has it."""

    index: int
    length: int
    """Frames."""

    tasks: tuple[str, ...] = ()
    """Its instructions, as far as the list says."""

    own_id: str = ""
    """Where it lies, e.g. `kitchen.hdf5/demo_3`; "" where its number says it all."""

    problem: tuple[str, str] | None = None
    """(reason, detail) where it is known before it is opened that it cannot be read."""


class Steps(ABC):
    """One opened episode of T frames."""

    instructions: tuple[str, ...]
    """Its different instructions; "" is one that is missing."""

    instruction: np.ndarray
    """int64 [T]: place in `instructions`."""

    seconds: np.ndarray
    """float64 [T]: time of each frame; NaN where it is missing."""

    @abstractmethod
    def image(self, camera: str, frame: int) -> ImageRef:
        """Raises RowProblem where the frame has no picture of this camera."""

    @abstractmethod
    def values(self, column: str) -> np.ndarray:
        """float64 [T, n] of a numeric column; NaN where missing.

        Raises RowProblem where this episode's values cannot be used, EmtError for a column that no
        episode has.
        """

    def no_instruction(self, frame: int) -> str:
        """Why a frame has no instruction."""
        return "has no instruction"

    def annotations(self) -> list[Annotation]:
        """What is said of the episode beside its instruction, by frame. Raises EmtError."""
        return []

    def meta(self, frame: int) -> dict[str, Any]:
        """What is kept beside the sample of a frame."""
        return {}


class RobotSet(ABC):
    """A set's episodes. A format implements the abstract part."""

    fps: float | None = None
    """Frames a second; None where the files do not say."""

    actions: tuple[str, ...] = ("action",)
    """The columns that make up the action of the set, side by side."""

    def __init__(self, source: EpisodeSource, data: Path) -> None:
        self.source = source
        self.data = data

    @property
    def root(self) -> Path:
        """Folder that image references are relative to."""
        return self.data.absolute()

    @property
    @abstractmethod
    def cameras(self) -> list[str]: ...

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """Names of the columns that have numbers for each frame."""

    @abstractmethod
    def dimensions(self, column: str) -> tuple[str, ...]:
        """Names of a column's dimensions, their numbers where they have none.

        Raises EmtError for a column that is not there or holds no vectors of one length.
        """

    @abstractmethod
    def all_episodes(self) -> Iterator[Episode]:
        """All episodes in order. Raises EmtError where the set's files make no sense together."""

    @abstractmethod
    def open(self, episode: Episode) -> Steps:
        """Raises RowProblem where the episode cannot be read."""

    @property
    def remote(self) -> bool:
        """Whether files of episodes are fetched from elsewhere as they are read."""
        return False

    def with_files(self, episodes: Iterable[Episode]) -> Iterator[Episode]:
        """The same episodes, each once its files are on this machine. Raises EmtError."""
        return iter(episodes)

    @property
    def edit(self) -> str:
        """ImageRef.edit of all pictures of the set."""
        return EDITS[self.source.flip]

    def check_cameras(self) -> None:
        """Raises EmtError for a camera that the set does not have."""
        for camera in self.source.all_cameras:
            if camera not in self.cameras:
                raise EmtError(
                    f"there is no camera {camera!r}",
                    where=self.data,
                    remedy=f"its cameras are: {', '.join(self.cameras) or 'none'}",
                )

    def episodes(self) -> Iterator[Episode]:
        """The episodes that the source reads, in order."""
        return picked(self.source, self.all_episodes(), lambda e: e.index, self.data)

    @cached_property
    def _by_index(self) -> dict[int, Episode]:
        return {episode.index: episode for episode in self.all_episodes()}

    def find(self, index: int) -> Episode:
        """Raises EmtError where the set has no such episode."""
        if index not in self._by_index:
            raise EmtError(f"there is no episode {index}", where=self.data)
        return self._by_index[index]

    def frames(self, episode: Episode, camera: str) -> list[ImageRef]:
        """All frames of an episode, in order. Raises RowProblem."""
        steps = self.open(episode)
        return [steps.image(camera, frame) for frame in range(episode.length)]


def check_length(name: str, images: int, actions: int) -> None:
    """Raises RowProblem where an episode has not as many actions as images."""
    if images != actions:
        raise RowProblem("length_mismatch", f"{name} has {images:,} images and {actions:,} actions")


def count_frames(robot: RobotSet) -> int:
    """The rows that `read_frames` yields."""
    each = len(views_of(robot.source))
    return each * sum(len(_chosen(robot, episode)) for episode in robot.episodes())


def _chosen(robot: RobotSet, episode: Episode) -> np.ndarray:
    """Numbers of the frames that become rows; one for an episode that is known to be broken."""
    length = max(episode.length, 1) if episode.problem else episode.length
    return evenly_spaced(length, robot.source.frames_per_episode)


def read_frames(robot: RobotSet) -> Iterator[Sample | Reject]:
    """Samples by episode, frame and view; an episode that cannot be read gives rejects.

    Raises EmtError: no such camera, files that make no sense together.
    """
    robot.check_cameras()
    views = views_of(robot.source)
    row = 0
    for episode in robot.with_files(robot.episodes()):
        steps: Steps | None = None
        problem: RowProblem | None = None
        try:
            steps = robot.open(episode)
        except RowProblem as found:
            problem = found
        for frame in _chosen(robot, episode):
            for cameras in views:
                try:
                    if problem is not None or steps is None:
                        raise problem or RowProblem("unreadable_row", "no data")
                    yield _sample(robot, episode, steps, int(frame), cameras, row)
                except RowProblem as found:
                    yield reject(robot.source.name, row, found, episode.own_id)
                row += 1


def _sample(
    robot: RobotSet,
    episode: Episode,
    steps: Steps,
    frame: int,
    cameras: tuple[str, ...],
    row: int,
) -> Sample:
    text = encodable(steps.instructions[steps.instruction[frame]]).strip()
    if not text:
        raise RowProblem(
            "empty_text", f"episode {episode.index}, frame {frame} {steps.no_instruction(frame)}"
        )
    meta = steps.meta(frame)
    if robot.source.cameras:
        meta["camera"] = ", ".join(cameras)
    return build_sample(
        source=robot.source.name,
        row=row,
        role=robot.source.role,
        turns=(Turn(role="user", text=text),),
        images=(tiled([steps.image(camera, frame) for camera in cameras]),),
        missing="none",
        own_id=episode.own_id,
        meta=meta,
        episode=episode.index,
        frame=frame,
    )
