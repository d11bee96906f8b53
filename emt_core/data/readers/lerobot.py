"""LeRobot sets (v3.0, v2.1): a sample a frame, `frames_per_episode` evenly spaced ones an episode.

The instruction comes from the task table through the frame's `task_index`, so an episode may change
its task. Frames are referred to by their time in the video, or by their row where the images lie in
the data files. Nothing is decoded here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emt_core.data.fingerprint import FileSet
from emt_core.data.images.handles import ImageProblem
from emt_core.data.images.tiles import tiled
from emt_core.data.images.video import Video
from emt_core.data.readers.conversation import RowProblem, build_sample, encodable, reject
from emt_core.data.readers.lerobot_hub import hub_commit, with_files
from emt_core.data.readers.lerobot_hub import locate as locate
from emt_core.data.readers.lerobot_meta import Episode, LeRobotMeta, load_meta
from emt_core.data.readers.robot_episodes import evenly_spaced, picked, views_of
from emt_core.data.sample import ImageRef, Reject, Sample, Turn
from emt_core.errors import EmtError
from emt_core.recipe.sources import LeRobotSource

LIMIT_COUNTS = "episodes"


def loose_images(source: LeRobotSource, data: Path) -> bool:
    return False


def image_root(source: LeRobotSource, data: Path) -> Path:
    return data.absolute()


def files(source: LeRobotSource, data: Path) -> FileSet:
    meta = load_meta(data)
    commit = hub_commit(source, data)
    if commit is not None:
        return FileSet(base=data, facts=(commit,))
    tasks = data / "meta" / ("tasks.jsonl" if meta.major == 2 else "tasks.parquet")
    bulk: dict[str, None] = {}
    for episode in episodes_of(source, meta):
        for name in episode.files:
            if (data / name).is_file():  # a missing one becomes counted rejects
                bulk[name] = None
    return FileSet(
        base=data,
        index=(data / "meta" / "info.json", tasks, *meta.episode_files()),
        bulk=tuple(data / name for name in bulk),
    )


def count(source: LeRobotSource, data: Path) -> int | None:
    return len(views_of(source)) * sum(
        min(source.frames_per_episode, episode.length)
        for episode in episodes_of(source, load_meta(data))
    )


def read(source: LeRobotSource, data: Path) -> Iterator[Sample | Reject]:
    """Samples by episode, frame and camera; files that are missing or disagree cost their episode.

    Raises EmtError: no such camera, a missing or broken table.
    """
    meta = load_meta(data)
    row = 0
    for episode in with_files(source, data, episodes_of(source, meta)):
        facts: EpisodeFacts | None = None
        problem: RowProblem | None = None
        try:
            facts = _facts(data, meta, episode)
            check_rates(data, episode, facts)
        except RowProblem as found:
            problem = found
        except EmtError as error:
            there = (data / episode.data).is_file()
            reason = "unreadable_row" if there else "missing_file"
            problem = RowProblem(reason, f"{error.what}: {episode.data}")
        frames = evenly_spaced(episode.length, source.frames_per_episode)
        for frame, cameras in product(frames, views_of(source)):
            try:
                if problem is not None or facts is None:
                    raise problem or RowProblem("unreadable_row", "no data")
                yield _sample(source, meta, episode, facts, int(frame), cameras, row)
            except RowProblem as found:
                yield reject(source.name, row, found)
            row += 1


def episodes_of(source: LeRobotSource, meta: LeRobotMeta) -> Iterator[Episode]:
    """The episodes that the source reads, in the tables' order."""
    return picked(source, meta.episodes(source.all_cameras), attrgetter("index"), meta.root)


def _sample(
    source: LeRobotSource,
    meta: LeRobotMeta,
    episode: Episode,
    facts: EpisodeFacts,
    frame: int,
    cameras: Sequence[str],
    row: int,
) -> Sample:
    task = int(facts.task_index[frame])
    text = encodable(meta.tasks.get(task, "")).strip()
    if not text:
        named = f"task {task}, which the task table lacks"
        if task == NO_TASK:
            named = "no task_index"
        elif task in meta.tasks:
            named = f"task {task}, whose instruction is empty"
        raise RowProblem("empty_text", f"episode {episode.index}, frame {frame} has {named}")
    facts_of_frame = {"timestamp": round(_timestamp(episode, facts, frame), 6), "task_index": task}
    if source.cameras:
        facts_of_frame["camera"] = ", ".join(cameras)
    return build_sample(
        source=source.name,
        row=row,
        role=source.role,
        turns=(Turn(role="user", text=text),),
        images=(tiled([_ref(camera, meta, episode, facts, frame) for camera in cameras]),),
        missing="none",
        meta=facts_of_frame,
        episode=episode.index,
        frame=frame,
    )


def _ref(
    camera: str, meta: LeRobotMeta, episode: Episode, facts: EpisodeFacts, frame: int
) -> ImageRef:
    video = episode.videos.get(camera)
    if video is None:
        return ImageRef(
            kind="parquet", path=episode.data, member=camera, index=facts.first_row + frame
        )
    time = video.start + _timestamp(episode, facts, frame)
    return ImageRef(
        kind="video", path=video.file, member=camera, index=round(time * meta.fps), time=time
    )


def _timestamp(episode: Episode, facts: EpisodeFacts, frame: int) -> float:
    if not np.isfinite(facts.timestamp[frame]):
        raise RowProblem(
            "unreadable_row", f"episode {episode.index}, frame {frame} has no timestamp"
        )
    return float(facts.timestamp[frame])


@dataclass(frozen=True, kw_only=True)
class EpisodeFacts:
    """An episode's rows in its data file. timestamp: float64 [length], s; task_index: int64."""

    first_row: int
    timestamp: np.ndarray
    task_index: np.ndarray


def _facts(root: Path, meta: LeRobotMeta, episode: Episode) -> EpisodeFacts:
    path = root / episode.data
    first, length = _rows_of(path, episode)
    columns = _narrow_columns(path, path.stat().st_mtime_ns)
    part = slice(first, first + length)
    return EpisodeFacts(
        first_row=first,
        timestamp=columns["timestamp"][part],
        task_index=columns["task_index"][part],
    )


def _rows_of(path: Path, episode: Episode) -> tuple[int, int]:
    """(first row in the data file, rows). Raises EmtError where metadata say otherwise."""
    if not path.is_file():
        raise EmtError(f"the data file of episode {episode.index} is missing", where=path)
    rows = np.flatnonzero(
        _narrow_columns(path, path.stat().st_mtime_ns)["episode_index"] == episode.index
    )
    if len(rows) and rows[-1] - rows[0] + 1 != len(rows):
        raise EmtError(f"rows of other episodes lie between those of {episode.index}", where=path)
    if len(rows) != episode.length:
        raise EmtError(
            f"episode {episode.index} has {len(rows)} rows in its data file and "
            f"{episode.length} in the episodes table",
            where=path,
            remedy="the download may be incomplete",
        )
    return (int(rows[0]), len(rows)) if len(rows) else (0, 0)


@lru_cache(maxsize=4)
def _narrow_columns(path: Path, mtime_ns: int) -> dict[str, np.ndarray]:
    """The three number columns of a data file; images and states stay unread."""
    table = read_columns(path, list(NARROW))
    return {name: number_column(table, name, path) for name in NARROW}


NO_TASK = -1
NARROW = {"episode_index": -1, "timestamp": float("nan"), "task_index": NO_TASK}
"""Column of a data file -> what stands for null."""


def number_column(table: pa.Table, name: str, path: Path) -> np.ndarray:
    """int64 or float64 [rows] of a column of NARROW. Raises EmtError where it holds no numbers."""
    kind = pa.float64() if isinstance(NARROW[name], float) else pa.int64()
    column = table.column(name)
    if pa.types.is_fixed_size_list(column.type) and column.type.list_size == 1:
        column = column.combine_chunks().flatten()  # some writers keep numbers as vectors of one
    try:
        return pc.fill_null(pc.cast(column, kind), NARROW[name]).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise EmtError(f"column {name!r} holds {column.type}, no numbers", where=path) from error


def number_matrix(table: pa.Table, name: str, where: object = "") -> np.ndarray:
    """float64 [rows, n] of a column of numbers, or of lists of numbers that are all as long.

    Raises EmtError for anything else; a null number is NaN.
    """
    values = table.column(name).combine_chunks()
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    while any(is_list(values.type) for is_list in lists):
        lengths = pc.list_value_length(values)  # pyright: ignore[reportAttributeAccessIssue]
        if values.null_count or len(lengths.unique()) > 1:
            raise EmtError(f"rows of column {name!r} have different lengths", where=where)
        values = values.flatten()
    try:
        flat = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise EmtError(f"column {name!r} holds {values.type}, no numbers", where=where) from error
    return flat.reshape(len(table), -1) if len(table) else np.empty((0, 0))


def check_rates(root: Path, episode: Episode, facts: EpisodeFacts) -> None:
    """Raises RowProblem where a video runs at another rate than the timestamps say.

    A frame is looked up by its time: at another rate the picture would be that of another moment.
    """
    if episode.length < 2:
        return
    took = float(facts.timestamp[-1] - facts.timestamp[0])
    for video in episode.videos.values():
        path = root / video.file
        rate = video_rate(path, path.stat().st_mtime_ns) if path.is_file() else None
        if rate and abs(took * rate - (episode.length - 1)) > HALF_A_FRAME:
            said = (episode.length - 1) / took if took > 0 else 0.0
            raise RowProblem(
                "wrong_rate",
                f"episode {episode.index}: {video.file} has {rate:.3g} frames a second, the "
                f"timestamps in {episode.data} {said:.3g}",
            )


HALF_A_FRAME = 0.5


@lru_cache(maxsize=16)
def video_rate(path: Path, mtime_ns: int) -> float | None:
    """Frames a second by the video's header; None where it cannot be opened or says nothing."""
    try:
        video = Video(path)
    except ImageProblem:
        return None  # its rows are rejected by what is wrong with it
    rate = video.stream.average_rate
    video.close()
    return float(rate) if rate else None


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Columns of a data file. Raises EmtError where it cannot be read or lacks one."""
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise EmtError(f"a data file cannot be read as parquet: {error}", where=path) from error
    with file:
        lacking = [name for name in columns if name not in file.schema_arrow.names]
        if lacking:
            raise EmtError(f"a data file lacks the columns {lacking}", where=path)
        return file.read(columns=columns, use_threads=False)


def find_episode(source: LeRobotSource, root: Path, episode: int) -> tuple[LeRobotMeta, Episode]:
    """Raises EmtError where the set has no such episode."""
    meta = load_meta(root)
    found = _by_index(meta, source.all_cameras).get(episode)
    if found is None:
        raise EmtError(f"there is no episode {episode}", where=root)
    return meta, found


@lru_cache(maxsize=4)
def _by_index(meta: LeRobotMeta, cameras: tuple[str, ...]) -> dict[int, Episode]:
    return {episode.index: episode for episode in meta.episodes(cameras)}


def episode_frames(source: LeRobotSource, root: Path, episode: int) -> list[ImageRef]:
    """References to all frames of an episode by the source's first camera, in order.

    open_images decodes the video once. Raises RowProblem where times do not tell which frames they
    are, EmtError as `read` does.
    """
    meta, found = find_episode(source, root, episode)
    facts = _facts(root, meta, found)
    check_rates(root, found, facts)
    camera = source.all_cameras[0]
    return [_ref(camera, meta, found, facts, frame) for frame in range(found.length)]


def episode_table(source: LeRobotSource, root: Path, episode: int) -> pa.Table:
    """All columns of an episode but its images (states, actions, timestamp, ...), a row a frame."""
    from pyarrow import parquet

    meta, found = find_episode(source, root, episode)
    path = root / found.data
    first, length = _rows_of(path, found)
    columns: list[Any] = [
        name for name in parquet.read_schema(path).names if name not in meta.cameras
    ]
    return read_columns(path, columns).slice(first, length)
