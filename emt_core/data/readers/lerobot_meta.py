"""The metadata of a LeRobot folder, v3.0 or v2.x, in one shape.

v3.0                                             v2.1
meta/info.json                                   meta/info.json
meta/tasks.parquet      (index: the task)        meta/tasks.jsonl
meta/episodes/chunk-*/file-*.parquet             meta/episodes.jsonl
data/chunk-000/file-000.parquet  (many episodes) data/chunk-000/episode_000000.parquet
videos/CAM/chunk-000/file-000.mp4                videos/chunk-000/CAM/episode_000000.mp4
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from string import Formatter
from typing import Any

from emt_core.data.arrow_files import read_table, rows_of
from emt_core.data.json_rows import parse_json
from emt_core.data.paths import PathLeavesRoot, data_file
from emt_core.data.readers.conversation import shown
from emt_core.data.readers.lerobot_kinds import OLD, is_depth, no_camera, not_lerobot
from emt_core.data.readers.robot_set import Episode
from emt_core.errors import EmtError
from emt_core.workspace.files import read_json

DEFAULT_PATHS = {
    3: (
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    ),
    2: (
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    ),
}


@dataclass(frozen=True, kw_only=True)
class VideoPart:
    """A camera's video of an episode. start: the time of the episode's first frame in it, s."""

    file: str
    start: float


@dataclass(frozen=True, kw_only=True)
class LeRobotEpisode(Episode):
    """Where one episode lies, below the folder."""

    data: str
    videos: Mapping[str, VideoPart]
    """Camera -> its video; a camera whose images are in the data file has none."""

    @property
    def files(self) -> tuple[str, ...]:
        return self.data, *(video.file for video in self.videos.values())


@dataclass(frozen=True, eq=False)
class LeRobotMeta:
    """Raises EmtError, naming the file, wherever the folder is not what its version promises."""

    root: Path

    @cached_property
    def info(self) -> dict[str, Any]:
        path = self.root / "meta" / "info.json"
        if not path.is_file():
            raise not_lerobot(self.root)
        found = read_json(path)
        if not isinstance(found, dict) or not isinstance(found.get("features"), dict):
            raise EmtError("meta/info.json has no features", where=path)
        return found

    @cached_property
    def major(self) -> int:
        version = str(self.info.get("codebase_version", ""))
        if not version.startswith(("v3.", "v2.")):
            raise EmtError(
                f"LeRobot version {version or 'unknown'} is not read",
                where=self.root / "meta" / "info.json",
                remedy=f"v2.0, v2.1 and v3.x are; {OLD}",
            )
        return int(version[1])

    @property
    def fps(self) -> float:
        fps = self.info.get("fps")
        if not isinstance(fps, int | float) or not 0 < fps < math.inf:
            raise EmtError(f"fps is {fps!r}", where=self.root / "meta" / "info.json")
        return float(fps)

    @property
    def chunks_size(self) -> int:
        """Episodes of a folder of files (v2)."""
        size = self.info.get("chunks_size", 1000)
        if not isinstance(size, int) or size <= 0:
            raise EmtError(f"chunks_size is {size!r}", where=self.root / "meta" / "info.json")
        return size

    @property
    def cameras(self) -> dict[str, str]:
        """Name -> `video` or `image`, of features with color images."""
        found = {
            name: f.get("dtype")
            for name, f in self.info["features"].items()
            if isinstance(f, dict) and not is_depth(f)
        }
        return {name: dtype for name, dtype in found.items() if dtype in ("video", "image")}

    def storage(self, camera: str) -> str:
        if camera not in self.cameras:
            raise no_camera(camera, self.info["features"], list(self.cameras), self.root)
        return self.cameras[camera]

    @cached_property
    def tasks(self) -> dict[int, str]:
        """task_index -> instruction, "" where the table has none (null)."""
        if self.major == 2:
            path = self.root / "meta" / "tasks.jsonl"
            found = {}
            for line, row in _json_lines(path):
                if "task_index" not in row or "task" not in row:
                    raise EmtError(
                        f"line {line} has no {'task_index' if 'task' in row else 'task'}, "
                        f"but {', '.join(row) or 'nothing'}",
                        where=path,
                        remedy='a line is {"task_index": 0, "task": "open the drawer"}',
                    )
                found[_whole(row["task_index"], f"line {line}: task_index", path)] = _text(
                    row["task"]
                )
            return found
        return _numbered_texts(self.root / "meta" / "tasks.parquet", "task")

    @cached_property
    def subtasks(self) -> dict[int, str]:
        """subtask_index -> text; {} where the set has no such table."""
        path = self.subtask_file
        return _numbered_texts(path, "subtask") if path.is_file() else {}

    @property
    def subtask_file(self) -> Path:
        return self.root / "meta" / "subtasks.parquet"

    def episode_files(self) -> list[Path]:
        if self.major == 2:
            return [self.root / "meta" / "episodes.jsonl"]
        found = sorted((self.root / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
        if not found:
            raise EmtError(
                "the folder has no episodes table", where=self.root / "meta" / "episodes"
            )
        return found

    def episodes(self, cameras: Sequence[str]) -> Iterator[LeRobotEpisode]:
        """All episodes in the tables' order, with the videos of these cameras.

        A row that stands twice counts once. Raises EmtError where an episode has two different
        rows, and at the end where meta/info.json promises another number of episodes.
        """
        filmed = [camera for camera in cameras if self.storage(camera) == "video"]
        seen: dict[int, LeRobotEpisode] = {}
        for path in self.episode_files():
            for row in self._episode_rows(path, filmed):
                try:
                    episode = self._episode(row, filmed)
                except (KeyError, TypeError, ValueError, OverflowError) as error:
                    raise EmtError(
                        f"an episode's row is incomplete: {error!r}", where=path
                    ) from error
                twin = seen.setdefault(episode.index, episode)
                if twin is episode:
                    yield episode
                elif twin != episode:
                    raise EmtError(
                        f"episode {episode.index} stands twice in the episodes table: "
                        f"{twin.length} frames in {twin.data}, {episode.length} in {episode.data}",
                        where=path,
                        remedy="remove the wrong row; recording over an old set leaves both",
                    )
        promised = self.info.get("total_episodes")
        if isinstance(promised, int) and promised != len(seen):
            raise EmtError(
                f"total_episodes is {promised:,}, but the episodes table has {len(seen):,}",
                where=self.root / "meta" / "info.json",
                remedy="complete the download; where the others were removed on purpose, write "
                f"{len(seen)} there",
            )

    def _episode_rows(self, path: Path, filmed: Sequence[str]) -> Iterator[dict[str, Any]]:
        if self.major == 2:
            yield from (row for _, row in _json_lines(path))
            return
        wanted = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index"]
        wanted += [
            f"videos/{camera}/{name}"
            for camera in filmed
            for name in ("chunk_index", "file_index", "from_timestamp")
        ]
        # the wide statistics columns stay unread
        yield from rows_of(read_table(path, wanted), path)

    def _episode(self, row: dict[str, Any], filmed: Sequence[str]) -> LeRobotEpisode:
        index = _count(row["episode_index"], "episode_index")
        if self.major == 2:
            data = {"episode_chunk": index // self.chunks_size, "episode_index": index}
        else:
            data = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
        return LeRobotEpisode(
            index=index,
            length=_count(row["length"], "length"),
            tasks=tuple(_text(task) for task in row.get("tasks") or ()),
            data=self._file("data_path", data),
            videos={camera: self._video(row, camera, data) for camera in filmed},
        )

    def _video(self, row: dict[str, Any], camera: str, data: Mapping[str, Any]) -> VideoPart:
        """data: what numbers the episode's data file; in v2 it numbers the video too."""
        if self.major == 2:
            return VideoPart(file=self._file("video_path", {**data, "video_key": camera}), start=0)
        place = {name: row[f"videos/{camera}/{name}"] for name in ("chunk_index", "file_index")}
        start = float(row[f"videos/{camera}/from_timestamp"])
        if not math.isfinite(start):
            raise ValueError(f"from_timestamp is {start}")
        file = self._file("video_path", place | {"video_key": camera})
        return VideoPart(file=file, start=start)

    def _file(self, name: str, numbers: Mapping[str, Any]) -> str:
        """data_path or video_path of meta/info.json with its placeholders filled."""
        place = 0 if name == "data_path" else 1
        template = self.info.get(name) or DEFAULT_PATHS[self.major][place]
        try:
            return data_file(_filled(str(template), numbers), self.root)
        except PathLeavesRoot as error:
            what = f"{name} names a file outside the folder: {error}"
        except (KeyError, ValueError, TypeError) as error:
            what = f"{name} is {shown(template)}, which cannot be filled in: {error!r}"
        raise EmtError(
            what,
            where=self.root / "meta" / "info.json",
            remedy=f"a v{self.major} set has {DEFAULT_PATHS[self.major][place]}",
        )


@lru_cache(maxsize=16)
def _load(root: Path, mtime_ns: int) -> LeRobotMeta:
    return LeRobotMeta(root)


def load_meta(root: Path) -> LeRobotMeta:
    """The folder's metadata, kept while info.json stays as it is."""
    info = root / "meta" / "info.json"
    return _load(root, info.stat().st_mtime_ns if info.is_file() else 0)


def _filled(template: str, numbers: Mapping[str, Any]) -> str:
    """The template with `{name}` and `{name:03d}` filled in. Raises KeyError, ValueError.

    Nothing else that str.format knows: a template is data, and `{name:99999999d}` fills memory.
    """
    parts = []
    for text, name, width, conversion in Formatter().parse(template):
        parts.append(text)
        if name is not None:
            if conversion or not re.fullmatch(r"(0?\d{0,2}d)?", width or ""):
                raise ValueError(f"{{{name}:{width}}}")
            parts.append(format(numbers[name], width or ""))
    return "".join(parts)


def _numbered_texts(path: Path, kind: str) -> dict[int, str]:
    """The table of `kind` (task, subtask): number -> text, which is a column or pandas' index."""
    table = read_table(path)
    names = [name for name in (kind, "__index_level_0__") if name in table.column_names]
    if not names or f"{kind}_index" not in table.column_names:
        raise EmtError(
            f"{path.name} has columns {table.column_names}",
            where=path,
            remedy=f"{kind}, {kind}_index",
        )
    rows = rows_of(table.select([f"{kind}_index", names[0]]), path)
    return {
        _whole(row[f"{kind}_index"], f"row {number}: {kind}_index", path): _text(row[names[0]])
        for number, row in enumerate(rows)
    }


def _whole(value: Any, what: str, where: Path) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise EmtError(f"{what} is {shown(value)}, not a whole number", where=where) from error


def _count(value: Any, name: str) -> int:
    """Raises ValueError for a number below 0, between two whole ones, or beyond 64 bits."""
    count = int(value)
    if not 0 <= count < 2**63 or (isinstance(value, float) and count != value):
        raise ValueError(f"{name} is {shown(value)}")
    return count


def _text(value: Any) -> str:
    """ "" for null, so that no instruction becomes the word None."""
    return "" if value is None or value != value else str(value)


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line from 1, object) of each line."""
    if not path.is_file():
        raise EmtError(f"{path.name} is missing", where=path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.isspace():
                    try:
                        row = parse_json(line)
                    except ValueError as error:
                        raise EmtError(f"line {number} is not JSON: {error}", where=path) from error
                    if not isinstance(row, dict):
                        raise EmtError(f"line {number} is no JSON object", where=path)
                    yield number, row
    except UnicodeDecodeError as error:
        raise EmtError(f"{path.name} is not UTF-8", where=path) from error
