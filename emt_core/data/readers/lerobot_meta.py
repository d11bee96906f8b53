"""The metadata of a LeRobot folder, v3.0 or v2.x, in one shape.

v3.0                                             v2.1
meta/info.json                                   meta/info.json
meta/tasks.parquet      (index: the task)        meta/tasks.jsonl
meta/episodes/chunk-*/file-*.parquet             meta/episodes.jsonl
data/chunk-000/file-000.parquet  (many episodes) data/chunk-000/episode_000000.parquet
videos/CAM/chunk-000/file-000.mp4                videos/chunk-000/CAM/episode_000000.mp4
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from emt_core.data.paths import PathLeavesRoot, relative_path
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
class Episode:
    """Where one episode lies, below the folder. start: its first frame's time in the video, s."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data: str
    video: str
    """"" where the camera's images are in the data file."""

    start: float


@dataclass(frozen=True, eq=False)
class LeRobotMeta:
    """Raises EmtError, naming the file, wherever the folder is not what its version promises."""

    root: Path

    @cached_property
    def info(self) -> dict[str, Any]:
        path = self.root / "meta" / "info.json"
        if not path.is_file():
            raise EmtError("this is no LeRobot folder: meta/info.json is missing", where=self.root)
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
                remedy="v2.0, v2.1 and v3.x are; convert older sets with lerobot's own converter",
            )
        return int(version[1])

    @property
    def fps(self) -> float:
        fps = self.info.get("fps")
        if not isinstance(fps, int | float) or fps <= 0:
            raise EmtError(f"fps is {fps!r}", where=self.root / "meta" / "info.json")
        return float(fps)

    @property
    def cameras(self) -> dict[str, str]:
        """Name -> `video` or `image`."""
        found = {
            name: f.get("dtype") for name, f in self.info["features"].items() if isinstance(f, dict)
        }
        return {name: dtype for name, dtype in found.items() if dtype in ("video", "image")}

    def storage(self, camera: str) -> str:
        if camera not in self.cameras:
            known = ", ".join(self.cameras) or "none"
            raise EmtError(
                f"there is no camera {camera!r}",
                where=self.root,
                remedy=f"its cameras are: {known}",
            )
        return self.cameras[camera]

    @cached_property
    def tasks(self) -> dict[int, str]:
        """task_index -> instruction."""
        if self.major == 2:
            rows = _json_lines(self.root / "meta" / "tasks.jsonl")
            return {int(row["task_index"]): str(row["task"]) for row in rows}
        path = self.root / "meta" / "tasks.parquet"
        table = _parquet(path)
        names = [name for name in ("task", "__index_level_0__") if name in table.column_names]
        if not names or "task_index" not in table.column_names:
            raise EmtError(
                f"tasks.parquet has columns {table.column_names}",
                where=path,
                remedy="task, task_index",
            )
        indices = table.column("task_index").to_pylist()
        texts = table.column(names[0]).to_pylist()
        return {int(index): str(text) for index, text in zip(indices, texts, strict=True)}

    def episode_files(self) -> list[Path]:
        if self.major == 2:
            return [self.root / "meta" / "episodes.jsonl"]
        found = sorted((self.root / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
        if not found:
            raise EmtError(
                "the folder has no episodes table", where=self.root / "meta" / "episodes"
            )
        return found

    def episodes(self, camera: str | None) -> Iterator[Episode]:
        """All episodes in the tables' order. camera None: no video is asked for."""
        video = camera is not None and self.storage(camera) == "video"
        paths = self.info.get("data_path") or DEFAULT_PATHS[self.major][0]
        videos = self.info.get("video_path") or DEFAULT_PATHS[self.major][1]
        for path in self.episode_files():
            for row in self._episode_rows(path, camera if video else None):
                try:
                    yield self._episode(row, paths, videos if video else "", camera or "")
                except (KeyError, TypeError, ValueError, IndexError) as error:
                    raise EmtError(
                        f"an episode's row is incomplete: {error!r}", where=path
                    ) from error

    def _episode_rows(self, path: Path, video_camera: str | None) -> Iterator[dict[str, Any]]:
        if self.major == 2:
            yield from _json_lines(path)
            return
        wanted = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index"]
        if video_camera is not None:
            wanted += [
                f"videos/{video_camera}/{name}"
                for name in ("chunk_index", "file_index", "from_timestamp")
            ]
        yield from _parquet(path, wanted).to_pylist()  # the wide statistics columns stay unread

    def _episode(self, row: dict[str, Any], data: str, video: str, camera: str) -> Episode:
        index = int(row["episode_index"])
        start = 0.0
        if self.major == 2:
            numbers = {
                "episode_chunk": index // int(self.info.get("chunks_size", 1000)),
                "episode_index": index,
            }
            data_path = data.format(**numbers)
            video_path = video.format(**numbers, video_key=camera)
        else:
            data_path = data.format(
                chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
            )
            video_path = ""
            if video:
                place = {
                    name: row[f"videos/{camera}/{name}"] for name in ("chunk_index", "file_index")
                }
                video_path = video.format(video_key=camera, **place)
                start = float(row[f"videos/{camera}/from_timestamp"])
        try:
            data_path = relative_path(data_path, self.root)
            video_path = relative_path(video_path, self.root) if video_path else ""
        except PathLeavesRoot as error:
            raise EmtError(
                f"meta/info.json names a file outside the folder: {error}", where=self.root
            ) from error
        return Episode(
            index=index,
            length=int(row["length"]),
            tasks=tuple(str(task) for task in row.get("tasks") or ()),
            data=data_path,
            video=video_path,
            start=start,
        )


@lru_cache(maxsize=16)
def _load(root: Path, mtime_ns: int) -> LeRobotMeta:
    return LeRobotMeta(root)


def load_meta(root: Path) -> LeRobotMeta:
    """The folder's metadata, kept while info.json stays as it is."""
    info = root / "meta" / "info.json"
    return _load(root, info.stat().st_mtime_ns if info.is_file() else 0)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.isspace():
                    try:
                        yield json.loads(line)
                    except ValueError as error:
                        raise EmtError(f"line {number} is not JSON: {error}", where=path) from error
    except FileNotFoundError as error:
        raise EmtError(f"{path.name} is missing", where=path) from error
    except UnicodeDecodeError as error:
        raise EmtError(f"{path.name} is not UTF-8", where=path) from error


def _parquet(path: Path, columns: list[str] | None = None) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except FileNotFoundError as error:
        raise EmtError(f"{path.name} is missing", where=path) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise EmtError(f"{path.name} cannot be read as parquet: {error}", where=path) from error
    with file:
        lacking = [name for name in columns or () if name not in file.schema_arrow.names]
        if lacking:
            raise EmtError(f"{path.name} lacks the columns {lacking}", where=path)
        return file.read(columns=columns)
