"""Finished episodes on disk: a line as each ends, so a kill costs what was being played; a table.

episodes.jsonl     flushed to disk line by line; a last line that a kill cut short is dropped
shards/            rows of the episodes that other processes have played (run/shards.py)
episodes.parquet   the rows of both, sorted by checkpoint, task and episode
videos/            CHECKPOINT-TASK-EPISODE.mp4, written before the row that names it
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emt_core.evaluation.benchmarks.base import Episode
from emt_core.evaluation.closed_loop.rollout import Played
from emt_core.run.shards import done_shards, read_shard
from emt_core.workspace.lines import whole_lines

SCHEMA = pa.schema(
    [
        ("benchmark", pa.string()),
        ("task", pa.string()),
        ("instruction", pa.string()),
        ("checkpoint", pa.int64()),
        ("episode", pa.int64()),
        ("seed", pa.int64()),
        ("success", pa.bool_()),
        ("steps", pa.int64()),
        ("seconds", pa.float64()),
        ("failure", pa.string()),
        ("video", pa.string()),
        ("completed", pa.int64()),
        ("goals", pa.int64()),
        ("detail", pa.string()),
    ]
)
"""`checkpoint`: step, -1 for a folder outside of artifacts. `failure`: "" or one of FAILURES
and FAULTS."""

SIDE_LIMIT = 320
"""Videos are thinned to about this many pixels a side."""


class EpisodeLog:
    """Rows of one evaluation under construction, whoever played them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "episodes.jsonl"
        rows = whole_lines(self.path)
        for shard in done_shards(folder):
            rows += read_shard(folder, shard)["episodes"]
        # shards of another cut may hold an episode once more
        self._rows = {_case_of(row): row for row in reversed(rows)}

    @property
    def rows(self) -> list[dict[str, Any]]:
        return list(self._rows.values())

    def missing(self, checkpoint: int, episodes: Sequence[Episode]) -> list[Episode]:
        """Those that have not been played at a checkpoint."""
        return [one for one in episodes if (checkpoint, one.task, one.number) not in self._rows]

    def add(self, row: dict[str, Any]) -> None:
        """Append what `episode_row` returned."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._rows[_case_of(row)] = row

    def table(self) -> pa.Table:
        rows = sorted(self.rows, key=lambda row: (row["checkpoint"], row["task"], row["episode"]))
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def finish(self) -> pa.Table:
        """Write episodes.parquet. The lines are needed until the artifact is committed."""
        table = self.table()
        aside = self.folder / "episodes.parquet.partial"
        pq.write_table(table, aside)
        aside.replace(self.folder / "episodes.parquet")
        return table


def episode_row(
    folder: Path, played: Played, checkpoint: int, goals: int, fps: float
) -> dict[str, Any]:
    """The row of an episode that has ended. Writes its video first, where it has frames."""
    episode = played.episode
    video = ""
    if played.frames:
        video = f"videos/{checkpoint}-{_plain(episode.task)}-{episode.number}.mp4"
        write_video(folder / video, played.frames, fps)
    return {
        "benchmark": episode.benchmark,
        "task": episode.task,
        "instruction": played.instruction,
        "checkpoint": checkpoint,
        "episode": episode.number,
        "seed": episode.seed,
        "success": played.success,
        "steps": played.steps,
        "seconds": round(played.seconds, 3),
        "failure": played.failure,
        "video": video,
        "completed": played.completed,
        "goals": goals,
        "detail": played.detail,
    }


def write_video(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Write H.264, thinned for a page, with even sides. frames: uint8 [H, W, 3], all of one
    size."""
    from emt_core.data.robot.lerobot_video import VideoFile

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    step = max(1, round(max(height, width) / SIDE_LIMIT))
    thin = [frame[::step, ::step] for frame in frames]
    even = [frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2] for frame in thin]
    video = VideoFile(path, fps=max(1, round(fps)), size=even[0].shape[:2], quantizer=24)
    try:
        for frame in even:
            video.add(frame)
    finally:
        video.close()


def _case_of(row: dict[str, Any]) -> tuple[int, str, int]:
    return row["checkpoint"], row["task"], row["episode"]


def _plain(name: str) -> str:
    """A task's name in a file's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:80]
