"""Writes the metadata tables of a LeRobot folder (tasks, episodes, statistics), v3.0 or v2.1."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emt_core.data.robot.lerobot_stats import Stats, aggregate_stats

Rows = Sequence[dict[str, Any]]


def write_tables_v30(
    meta: Path, tasks: Mapping[str, int], episodes: Rows, stats: Sequence[dict[str, Stats]]
) -> None:
    """meta: the folder `meta`. episodes, stats: one entry an episode."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = pd.Index(list(tasks), name="task")
    table = pd.DataFrame({"task_index": list(tasks.values())}, index=index)
    table.to_parquet(meta / "tasks.parquet")
    place = {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
    rows = []
    for row, features in zip(episodes, stats, strict=True):
        flat = {
            f"stats/{feature}/{name}": value.tolist()
            for feature, group in features.items()
            for name, value in group.items()
        }
        rows.append(row | flat | place)
    path = meta / "episodes/chunk-000/file-000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
    write_indented(meta / "stats.json", _lists(aggregate_stats(stats)))


def write_tables_v21(
    meta: Path, tasks: Mapping[str, int], episodes: Rows, stats: Sequence[dict[str, Stats]]
) -> None:
    """As write_tables_v30, in JSON lines."""
    named = [{"task_index": index, "task": task} for task, index in tasks.items()]
    _write_lines(meta / "tasks.jsonl", named)
    dropped = ("dataset_from_index", "dataset_to_index")
    rows = [{k: v for k, v in row.items() if k not in dropped} for row in episodes]
    _write_lines(meta / "episodes.jsonl", rows)
    numbered = [
        {"episode_index": index, "stats": _lists(features)} for index, features in enumerate(stats)
    ]
    _write_lines(meta / "episodes_stats.jsonl", numbered)


def write_indented(path: Path, value: Any) -> None:
    """JSON as LeRobot's own files have it."""
    path.write_text(json.dumps(value, indent=2) + "\n")


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _lists(stats: Mapping[str, Stats]) -> dict[str, dict[str, list]]:
    return {
        feature: {name: value.tolist() for name, value in group.items()}
        for feature, group in stats.items()
    }
