"""LeRobot sets (v3.0, v2.1): a sample a frame, `frames_per_episode` evenly spaced ones an episode.

The instruction comes from the task table through the frame's `task_index`, so an episode may change
its task. Frames are referred to by their time in the video, or by their row where the images lie in
the data files. Nothing is decoded here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.data.fingerprint import FileSet
from emt_core.data.readers.annotation import Annotation
from emt_core.data.readers.annotation_rows import read_annotations
from emt_core.data.readers.conversation import RowProblem
from emt_core.data.readers.lerobot_data import NO_TASK, matrix, narrow_columns, video_rate
from emt_core.data.readers.lerobot_hub import hub_commit, with_files
from emt_core.data.readers.lerobot_hub import locate as locate
from emt_core.data.readers.lerobot_language import annotations_of
from emt_core.data.readers.lerobot_meta import LeRobotEpisode, LeRobotMeta, load_meta
from emt_core.data.readers.robot_set import RobotSet, Steps, count_frames, read_frames
from emt_core.data.sample import ImageRef, Reject, Sample
from emt_core.errors import EmtError
from emt_core.recipe.sources import LeRobotSource

LIMIT_COUNTS = "episodes"
NUMBERS = ("float", "int", "uint", "bool")
BOOKKEEPING = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
HALF_A_FRAME = 0.5


def loose_images(source: LeRobotSource, data: Path) -> bool:
    return False


def image_root(source: LeRobotSource, data: Path) -> Path:
    return data.absolute()


def files(source: LeRobotSource, data: Path) -> FileSet:
    robot = robot_set(source, data)
    commit = hub_commit(source, data)
    if commit is not None:
        return FileSet(base=data, facts=(commit,))
    tasks = [data / "meta" / ("tasks.jsonl" if robot.meta.major == 2 else "tasks.parquet")]
    if source.annotations and robot.meta.subtask_file.is_file():
        tasks.append(robot.meta.subtask_file)
    bulk: dict[str, None] = {}
    for episode in robot.episodes():
        assert isinstance(episode, LeRobotEpisode)
        for name in episode.files:
            if (data / name).is_file():  # a missing one becomes counted rejects
                bulk[name] = None
    return FileSet(
        base=data,
        index=(data / "meta" / "info.json", *tasks, *robot.meta.episode_files()),
        bulk=tuple(data / name for name in bulk),
    )


def count(source: LeRobotSource, data: Path) -> int | None:
    return None if source.annotations else count_frames(robot_set(source, data))


def read(source: LeRobotSource, data: Path) -> Iterator[Sample | Reject]:
    """Frames, or annotations where the source asks for them.

    Raises EmtError: no such camera or style of annotation, a missing or broken table.
    """
    robot = robot_set(source, data)
    if source.annotations:
        return read_annotations(robot, source.annotations)
    return read_frames(robot)


def robot_set(source: LeRobotSource, data: Path) -> LeRobotSet:
    return LeRobotSet(source, data)


class LeRobotSet(RobotSet):
    source: LeRobotSource

    @property
    def remote(self) -> bool:
        return hub_commit(self.source, self.data) is not None

    def with_files(self, episodes: Iterable[Any]) -> Iterator[LeRobotEpisode]:
        return with_files(self.source, self.data, episodes)

    @property
    def meta(self) -> LeRobotMeta:
        return load_meta(self.data)

    @property
    def fps(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.meta.fps

    @property
    def cameras(self) -> list[str]:
        return list(self.meta.cameras)

    @property
    def _features(self) -> dict[str, Mapping[str, Any]]:
        features = self.meta.info["features"]
        return {name: f for name, f in features.items() if isinstance(f, dict)}

    @property
    def columns(self) -> list[str]:
        return [
            name
            for name, feature in self._features.items()
            if str(feature.get("dtype", "")).startswith(NUMBERS) and name not in BOOKKEEPING
        ]

    def dimensions(self, column: str) -> tuple[str, ...]:
        if column not in self.columns:
            raise EmtError(
                f"there is no numeric feature {column!r}",
                where=self.data,
                remedy=f"features: {', '.join(self.columns)}",
            )
        feature = self._features[column]
        shape = feature.get("shape") or [1]
        if not isinstance(shape, list) or len(shape) != 1 or not isinstance(shape[0], int):
            raise EmtError(f"feature {column!r} has shape {shape}, not [n]", where=self.data)
        names = _flat_names(feature.get("names"))
        return tuple(names if len(names) == shape[0] else map(str, range(shape[0])))

    def check_cameras(self) -> None:
        for camera in self.source.all_cameras:
            self.meta.storage(camera)

    def all_episodes(self) -> Iterator[LeRobotEpisode]:
        return self.meta.episodes(self.source.all_cameras)

    def open(self, episode: Any) -> LeRobotSteps:
        return LeRobotSteps(self, episode)


def _flat_names(names: Any) -> list[str]:
    """Names of dimensions: a list, {"motors": [...]} (v2), or {name: place}."""
    if isinstance(names, dict):
        lists = [part for part in names.values() if isinstance(part, list)]
        places = {name: place for name, place in names.items() if isinstance(place, int)}
        names = [name for part in lists for name in part] or sorted(places, key=places.__getitem__)
    return [str(name) for name in names] if isinstance(names, list) else []


class LeRobotSteps(Steps):
    def __init__(self, robot: LeRobotSet, episode: LeRobotEpisode) -> None:
        self.robot = robot
        self.episode = episode
        self.path = robot.data / episode.data
        if not self.path.is_file():
            raise RowProblem(
                "missing_file",
                f"the data file of episode {episode.index} is missing: {episode.data}",
            )
        try:
            columns = narrow_columns(self.path, self.path.stat().st_mtime_ns)
        except EmtError as error:
            raise RowProblem("unreadable_row", f"{error.what}: {episode.data}") from error
        self.first_row = self._first_row(columns["episode_index"])
        part = slice(self.first_row, self.first_row + episode.length)
        self.seconds = columns["timestamp"][part]
        self.task_index = columns["task_index"][part]
        tasks, self.instruction = np.unique(self.task_index, return_inverse=True)
        self.instructions = tuple(robot.meta.tasks.get(int(task), "") for task in tasks)
        self._rate_problem = self._wrong_rate()

    def _first_row(self, owner: np.ndarray) -> int:
        """Of the episode in its data file. Raises RowProblem where metadata say otherwise."""
        episode = self.episode
        rows = np.flatnonzero(owner == episode.index)
        problem = ""
        if len(rows) and rows[-1] - rows[0] + 1 != len(rows):
            problem = f"rows of other episodes lie between those of {episode.index}"
        elif len(rows) != episode.length:
            problem = (
                f"episode {episode.index} has {len(rows)} rows in its data file and "
                f"{episode.length} in the episodes table"
            )
        if problem:
            raise RowProblem("unreadable_row", f"{problem}: {episode.data}")
        return int(rows[0]) if len(rows) else 0

    def _wrong_rate(self) -> RowProblem | None:
        """The problem where a video runs at another rate than the timestamps say.

        A frame is looked up by its time: at another rate the picture would be that of another
        moment.
        """
        episode = self.episode
        if episode.length < 2:
            return None
        took = float(self.seconds[-1] - self.seconds[0])
        for video in episode.videos.values():
            path = self.robot.data / video.file
            rate = video_rate(path, path.stat().st_mtime_ns) if path.is_file() else None
            if rate and abs(took * rate - (episode.length - 1)) > HALF_A_FRAME:
                said = (episode.length - 1) / took if took > 0 else 0.0
                return RowProblem(
                    "wrong_rate",
                    f"episode {episode.index}: {video.file} has {rate:.3g} frames a second, the "
                    f"timestamps in {episode.data} {said:.3g}",
                )
        return None

    def image(self, camera: str, frame: int) -> ImageRef:
        if self._rate_problem:
            raise self._rate_problem
        episode = self.episode
        edit = self.robot.edit
        video = episode.videos.get(camera)
        if video is None:
            row = self.first_row + frame
            return ImageRef(kind="parquet", path=episode.data, member=camera, index=row, edit=edit)
        time = video.start + self._timestamp(frame)
        index = round(time * self.robot.fps)
        return ImageRef(
            kind="video", path=video.file, member=camera, index=index, time=time, edit=edit
        )

    def _timestamp(self, frame: int) -> float:
        if not np.isfinite(self.seconds[frame]):
            raise RowProblem(
                "unreadable_row", f"episode {self.episode.index}, frame {frame} has no timestamp"
            )
        return float(self.seconds[frame])

    def values(self, column: str) -> np.ndarray:
        found = matrix(self.path, self.path.stat().st_mtime_ns, column)
        width = len(self.robot.dimensions(column))
        if len(found) and found.shape[1] != width:
            raise EmtError(
                f"column {column!r} has {found.shape[1]} dimensions, meta/info.json promises "
                f"{width}",
                where=self.path,
            )
        return found[self.first_row : self.first_row + self.episode.length]

    def annotations(self) -> list[Annotation]:
        rows = slice(self.first_row, self.first_row + self.episode.length)
        of = self.robot.meta
        return annotations_of(of, self.path, self.episode.index, rows, self.seconds)

    def no_instruction(self, frame: int) -> str:
        task = int(self.task_index[frame])
        if task == NO_TASK:
            return "has no task_index"
        if task in self.robot.meta.tasks:
            return f"has task {task}, whose instruction is empty"
        return f"has task {task}, which the task table lacks"

    def meta(self, frame: int) -> dict[str, Any]:
        time = round(self._timestamp(frame), 6)
        return {"timestamp": time, "task_index": int(self.task_index[frame])}
