"""Writes a LeRobot data set, v3.0 or v2.1, from whole episodes, without lerobot or datasets.

v3.0 (many episodes a file)                           v2.1 (one file an episode)
    meta/info.json                                        meta/info.json
    meta/stats.json                                       meta/episodes_stats.jsonl
    meta/tasks.parquet                                    meta/tasks.jsonl
    meta/episodes/chunk-000/file-000.parquet              meta/episodes.jsonl
    data/chunk-000/file-000.parquet                       data/chunk-000/episode_000000.parquet
    videos/CAMERA/chunk-000/file-000.mp4                  videos/chunk-000/CAMERA/episode_000000.mp4

Images are H.264 video (`storage="video"`) or encoded bytes in the data files (`storage="image"`).
Frames go to the encoder as they come and rows to Parquet episode by episode, so memory does not
grow with the data set except by one small metadata row an episode. Everything is built in
`.NAME.partial` beside the target and renamed by `close`.
"""

from __future__ import annotations

import contextlib
import io
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from emt_core.data.robot.lerobot_stats import FrameStats, vector_stats
from emt_core.data.robot.lerobot_tables import (
    write_indented,
    write_tables_v21,
    write_tables_v30,
)
from emt_core.data.robot.lerobot_video import VideoFile
from emt_core.errors import EmtError

Version = Literal["v3.0", "v2.1"]

_CHUNK_FILES = 1000
_V30_PATHS = {
    "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}
_V21_PATHS = {
    "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
}


class LeRobotWriter:
    """Streams episodes into a new LeRobot folder.

    >>> with LeRobotWriter(root, fps=40, cameras={CAMERA: (112, 112)}, state_names=(...)) as w:
    ...     w.add_episode(task="open the drawer", images={CAMERA: frames}, state=s, action=a)

    An exception inside the block removes the partial folder: the target is whole or not there.
    """

    def __init__(
        self,
        root: Path,
        *,
        fps: int,
        cameras: Mapping[str, tuple[int, int]],
        state_names: Sequence[str],
        action_names: Sequence[str],
        version: Version = "v3.0",
        storage: Literal["video", "image"] = "video",
        robot_type: str | None = None,
        quantizer: int = 26,
        data_file_mb: float = 100.0,
        video_file_mb: float = 200.0,
    ) -> None:
        """cameras: feature name -> (height, width), both even for video. quantizer: of H.264, lower
        is better. data_file_mb, video_file_mb: v3.0 begins a new file after an episode that takes
        the open one past this size.

        Raises EmtError where the target exists.
        """
        self.root = Path(root)
        if self.root.exists():
            raise EmtError(
                "The folder of the new robot set exists",
                where=root,
                remedy="remove it or name another",
            )
        if version not in ("v3.0", "v2.1"):
            raise EmtError(
                f"LeRobot version {version!r} cannot be written", remedy="use v3.0 or v2.1"
            )
        self.version = version
        self.storage = storage
        self.fps = fps
        self.robot_type = robot_type
        self.quantizer = quantizer
        self.cameras = {name: (int(h), int(w)) for name, (h, w) in cameras.items()}
        self.state_names = tuple(state_names)
        self.action_names = tuple(action_names)
        self._limits = {"data": data_file_mb, "video": video_file_mb}
        self._paths = _V30_PATHS if version == "v3.0" else _V21_PATHS
        self._partial = self.root.with_name(f".{self.root.name}.partial")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._stats: list[dict[str, dict[str, np.ndarray]]] = []
        self._frames = 0
        self._data_index = 0
        self._data_file: Any = None
        self._video_index = dict.fromkeys(self.cameras, 0)
        self._videos: dict[str, VideoFile] = {}

    def add_episode(
        self,
        *,
        task: str,
        images: Mapping[str, Iterable[np.ndarray]],
        state: np.ndarray,
        action: np.ndarray,
        extra: Mapping[str, int | float | str] | None = None,
    ) -> int:
        """Append one episode and return its index.

        images: per camera T arrays (height, width, 3) uint8, consumed once. state (T, S), action
        (T, A): float. extra: further columns of the episode's metadata row (seed, simulator task,
        ...), the same keys every time. Raises EmtError where lengths or shapes disagree; the data
        set is then spoilt and must not be closed.
        """
        state = np.asarray(state, np.float32)
        action = np.asarray(action, np.float32)
        length = len(state)
        if length == 0 or state.shape != (length, len(self.state_names)):
            raise EmtError(
                f"State has shape {state.shape}, not (T > 0, {len(self.state_names)})", where=task
            )
        if action.shape != (length, len(self.action_names)):
            raise EmtError(
                f"Action has shape {action.shape}, not ({length}, {len(self.action_names)})",
                where=task,
            )
        if set(images) != set(self.cameras):
            raise EmtError(
                f"Cameras {sorted(images)} given, {sorted(self.cameras)} expected", where=task
            )
        episode = len(self._episodes)
        task_index = self._tasks.setdefault(task, len(self._tasks))
        row: dict[str, Any] = {"episode_index": episode, "tasks": [task], "length": length}
        stats = {"observation.state": vector_stats(state), "action": vector_stats(action)}
        columns: dict[str, Any] = {}
        for camera, frames in images.items():
            take = self._encode_video if self.storage == "video" else self._encode_images
            columns[camera], place, stats[camera] = take(camera, frames, episode, length)
            row |= place
        columns |= {"observation.state": state, "action": action}
        index = np.arange(self._frames, self._frames + length)
        columns |= {
            "timestamp": (np.arange(length) / self.fps).astype(np.float32),
            "frame_index": np.arange(length),
            "episode_index": np.full(length, episode),
            "index": index,
            "task_index": np.full(length, task_index),
        }
        for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
            stats[name] = vector_stats(np.asarray(columns[name], np.float64)[:, None])
        row |= self._write_rows(columns, episode)
        row |= {"dataset_from_index": self._frames, "dataset_to_index": self._frames + length}
        self._frames += length
        self._stats.append(stats)
        self._episodes.append(row | dict(extra or {}))
        return episode

    def close(self) -> None:
        """Write the metadata and move the folder to its place. Raises EmtError for no episode."""
        if not self._episodes:
            self.abort()
            raise EmtError("A robot set needs at least one episode", where=self.root)
        self._close_files()
        meta = self._partial / "meta"
        meta.mkdir()
        write_tables = write_tables_v30 if self.version == "v3.0" else write_tables_v21
        write_tables(meta, self._tasks, self._episodes, self._stats)
        write_indented(meta / "info.json", self._info())
        self._partial.rename(self.root)

    def abort(self) -> None:
        """Drop everything written so far."""
        # what an encoder says while it is thrown away would hide the real error
        with contextlib.suppress(Exception):
            self._close_files()
        shutil.rmtree(self._partial, ignore_errors=True)

    def __enter__(self) -> LeRobotWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    # -- images -----------------------------------------------------------------------------------

    def _encode_video(
        self, camera: str, frames: Iterable[np.ndarray], episode: int, length: int
    ) -> tuple[None, dict[str, Any], dict[str, np.ndarray]]:
        video = self._videos.get(camera)
        if video is not None and (
            self.version == "v2.1" or video.megabytes() >= self._limits["video"]
        ):
            video.close()
            self._video_index[camera] += 1
            video = None
        if video is None:
            path = self._place("video_path", self._video_index[camera], video_key=camera)
            video = self._videos[camera] = VideoFile(
                path, fps=self.fps, size=self.cameras[camera], quantizer=self.quantizer
            )
        first = video.frames
        stats = FrameStats()
        for number, frame in enumerate(frames):
            self._check_frame(camera, frame)
            stats.add(frame)
            # An episode begins with a keyframe, so that reading it never decodes the one before.
            video.add(frame, keyframe=number == 0)
        self._check_length(camera, video.frames - first, length)
        if self.version == "v2.1":
            return None, {}, stats.result()
        chunk, file = divmod(self._video_index[camera], _CHUNK_FILES)
        place = {
            f"videos/{camera}/chunk_index": chunk,
            f"videos/{camera}/file_index": file,
            f"videos/{camera}/from_timestamp": first / self.fps,
            f"videos/{camera}/to_timestamp": video.frames / self.fps,
        }
        return None, place, stats.result()

    def _encode_images(
        self, camera: str, frames: Iterable[np.ndarray], episode: int, length: int
    ) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, np.ndarray]]:
        from PIL import Image

        encoded = []
        stats = FrameStats()
        for number, frame in enumerate(frames):
            self._check_frame(camera, frame)
            stats.add(frame)
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, "JPEG", quality=90)
            name = f"episode-{episode:06d}-frame-{number:06d}.jpg"
            encoded.append({"bytes": buffer.getvalue(), "path": name})
        self._check_length(camera, len(encoded), length)
        return encoded, {}, stats.result()

    def _check_frame(self, camera: str, frame: np.ndarray) -> None:
        expected = (*self.cameras[camera], 3)
        if frame.dtype != np.uint8 or frame.shape != expected:
            raise EmtError(
                f"A frame is {frame.dtype} {frame.shape}, not uint8 {expected}", where=camera
            )

    def _check_length(self, camera: str, found: int, expected: int) -> None:
        if found != expected:
            raise EmtError(f"The episode has {found} frames but {expected} states", where=camera)

    # -- rows -------------------------------------------------------------------------------------

    def _write_rows(self, columns: Mapping[str, Any], episode: int) -> dict[str, int]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self._schema()
        table = pa.table(
            {name: _array(columns[name], schema.field(name).type) for name in schema.names},
            schema=schema,
        )
        full = self._data_file is not None and Path(self._data_file.where).stat().st_size / 2**20
        if self._data_file is not None and (self.version == "v2.1" or full >= self._limits["data"]):
            self._data_file.close()
            self._data_file = None
            self._data_index += 1
        if self._data_file is None:
            path = self._place("data_path", self._data_index)
            # zstd, not LeRobot's snappy: half the size, and pyarrow reads both.
            self._data_file = pq.ParquetWriter(str(path), schema, compression="zstd")
        self._data_file.write_table(table)
        if self.version == "v2.1":
            return {}
        chunk, file = divmod(self._data_index, _CHUNK_FILES)
        return {"data/chunk_index": chunk, "data/file_index": file}

    def _schema(self) -> Any:
        import pyarrow as pa

        fields = {}
        if self.storage == "image":
            fields |= {
                camera: pa.struct({"bytes": pa.binary(), "path": pa.string()})
                for camera in self.cameras
            }
        fields["observation.state"] = pa.list_(pa.float32(), len(self.state_names))
        fields["action"] = pa.list_(pa.float32(), len(self.action_names))
        fields["timestamp"] = pa.float32()
        fields |= dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), pa.int64())
        return pa.schema(fields)

    def _place(self, template: str, index: int, **names: str) -> Path:
        chunk, file = divmod(index, _CHUNK_FILES)
        numbers = {
            "chunk_index": chunk,
            "file_index": file,
            "episode_chunk": chunk,
            "episode_index": index,
        }
        path = self._partial / self._paths[template].format(**numbers, **names)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _close_files(self) -> None:
        for video in self._videos.values():
            video.close()
        self._videos.clear()
        if self._data_file is not None:
            self._data_file.close()
            self._data_file = None

    # -- metadata ---------------------------------------------------------------------------------

    def _info(self) -> dict[str, Any]:
        scalar = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64"}
        scalar |= {"index": "int64", "task_index": "int64"}
        vectors = {"observation.state": self.state_names, "action": self.action_names}
        features: dict[str, Any] = {
            name: {"dtype": "float32", "shape": [len(names)], "names": list(names)}
            for name, names in vectors.items()
        }
        for camera, (height, width) in self.cameras.items():
            feature: dict[str, Any] = {
                "dtype": self.storage,
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
            }
            if self.storage == "video":
                feature["info"] = {
                    "video.height": height,
                    "video.width": width,
                    "video.codec": "h264",
                    "video.pix_fmt": "yuv420p",
                    "video.is_depth_map": False,
                    "video.fps": self.fps,
                    "video.channels": 3,
                    "has_audio": False,
                }
            features[camera] = feature
        features |= {
            name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in scalar.items()
        }
        episodes = len(self._episodes)
        info: dict[str, Any] = {
            "codebase_version": self.version,
            "robot_type": self.robot_type,
            "total_episodes": episodes,
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": _CHUNK_FILES,
            "fps": self.fps,
            "splits": {"train": f"0:{episodes}"},
            "data_path": self._paths["data_path"],
            "video_path": self._paths["video_path"] if self.storage == "video" else None,
            "features": features,
        }
        if self.version == "v3.0":
            info |= {
                "data_files_size_in_mb": self._limits["data"],
                "video_files_size_in_mb": self._limits["video"],
            }
        else:
            videos = episodes * len(self.cameras) if self.storage == "video" else 0
            info |= {"total_videos": videos, "total_chunks": math.ceil(episodes / _CHUNK_FILES)}
        return info


def _array(values: Any, kind: Any) -> Any:
    import pyarrow as pa

    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(
            pa.array(values.ravel(), kind.value_type), values.shape[1]
        )
    return pa.array(values, kind)
