"""LeRobot sets with annotations in each layout that is published, beside the frames."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FRONT = "observation.images.front"
WRIST = "observation.images.wrist"


def said(style: str | None, content: str | None, **more: Any) -> dict[str, Any]:
    """A row of a language column, in the order of fields in which LeRobot writes them."""
    row: dict[str, Any] = {"role": "assistant", "content": content, "style": style}
    if "timestamp" in more:
        row["timestamp"] = more.pop("timestamp")
    return {**row, "camera": None, "tool_calls": None, **more}


def spoken(text: str) -> dict[str, Any]:
    """What LeRobot's pipeline writes for a spoken sentence."""
    call = {"type": "function", "function": {"name": "say", "arguments": {"text": text}}}
    return said(None, None, tool_calls=[call])


def asked(question: str, answer: Any, camera: str = FRONT) -> list[dict[str, Any]]:
    """A question about a frame as LeRobot's pipeline writes it: the answer is JSON."""
    return [
        said("vqa", json.dumps(answer), camera=camera),
        said("vqa", question, camera=camera, role="user"),
    ]


def write_language(
    root: Path,
    persistent: Mapping[int, Sequence[Any]],
    events: Mapping[tuple[int, int], Sequence[Any]],
) -> None:
    """persistent: episode -> rows. events: (episode, frame) -> rows. The layout of LeRobot 0.6."""
    for path in sorted((root / "data").rglob("*.parquet")):
        table = pq.read_table(path)
        owners = table.column("episode_index").to_pylist()
        places = list(zip(owners, table.column("frame_index").to_pylist(), strict=True))
        lists = {
            "language_persistent": [list(persistent.get(episode, ())) for episode, _ in places],
            "language_events": [list(events.get(place, ())) for place in places],
        }
        for name, rows in lists.items():
            table = table.append_column(name, pa.array(rows))
        pq.write_table(table, path)
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    for name in ("language_persistent", "language_events"):
        info["features"][name] = {"dtype": "language", "shape": [1], "names": None}
    path.write_text(json.dumps(info))


def write_numbers(root: Path, column: str, numbers: np.ndarray) -> None:
    """A number for each frame of the set, in its order."""
    at = 0
    for path in sorted((root / "data").rglob("*.parquet")):
        table = pq.read_table(path)
        values = pa.array(numbers[at : at + len(table)], pa.int64())
        pq.write_table(table.append_column(column, values), path)
        at += len(table)


def write_subtasks(root: Path, texts: Sequence[str]) -> None:
    """The table of LeRobot 0.4.4: pandas with the texts as its index, which has no name."""
    import pandas as pd

    table = pd.DataFrame({"subtask_index": range(len(texts))}, index=pd.Index(texts))
    table.to_parquet(root / "meta/subtasks.parquet")


def write_spans(root: Path, prefix: str, spans: Mapping[int, Sequence[tuple[str, int]]]) -> None:
    """SARM's columns of the episodes table: names and first frames; null where there are none."""
    for path in sorted((root / "meta/episodes").rglob("*.parquet")):
        table = pq.read_table(path)
        mine = [spans.get(episode) for episode in table.column("episode_index").to_pylist()]
        names = [rows and [name for name, _ in rows] for rows in mine]
        starts = [rows and [frame for _, frame in rows] for rows in mine]
        table = table.append_column(f"{prefix}subtask_names", pa.array(names))
        table = table.append_column(f"{prefix}subtask_start_frames", pa.array(starts))
        pq.write_table(table, path)
