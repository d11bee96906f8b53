"""Annotations of a LeRobot set: what is said of an episode beside its instruction.

language_persistent  in every frame's row the same list of {role, content, style, timestamp}; each
                     holds from its time on: subtask, plan, memory, motion, task_aug
language_events      in the row of a frame a list of {role, content, style, camera}: vqa,
                     interjection, trace; and what was said aloud, as a call of the tool `say`
subtask_index        a number a frame, whose text is in meta/subtasks.parquet
annotation.NAME      a number a frame, whose text is in the task table
subtask_names, ...   in the row of an episode, with subtask_start_frames; `sparse_`, `dense_` before

The first two are those of LeRobot since 0.6, `subtask_index` of 0.4.4 and 0.5, `annotation.NAME` of
GR00T, `subtask_names` of SARM. A number below 0 says that the frame has none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.data.arrow_files import read_table
from emt_core.data.readers.annotation import Annotation
from emt_core.data.readers.conversation import encodable, shown
from emt_core.data.readers.lerobot_meta import LeRobotMeta
from emt_core.errors import EmtError

PERSISTENT = "language_persistent"
EVENTS = "language_events"
SUBTASK = "subtask_index"
NUMBERED = "annotation."
PREFIXES = ("sparse_", "dense_", "")
SAME_TIME_S = 1e-3
BATCH_ROWS = 1024


def annotations_of(
    meta: LeRobotMeta, path: Path, episode: int, rows: slice, seconds: np.ndarray
) -> list[Annotation]:
    """All annotations of an episode, by frame.

    path: its data file. rows: its rows there. seconds: float64 [frames], their timestamps. Raises
    EmtError where a table or column is not what it promises.
    """
    file = _file(path, path.stat().st_mtime_ns)
    found = [_lasting(said, seconds) for said in file.persistent.get(episode, ())]
    for frame in range(len(seconds)):
        found += [_event(said, frame) for said in file.events.get(rows.start + frame, ())]
    for column, numbers in file.numbers.items():
        texts = meta.subtasks if column == SUBTASK else meta.tasks
        found += _numbered(column, numbers[rows], texts)
    found += _segments(meta).get(episode, ())
    inside = [_inside(annotation, len(seconds)) for annotation in found]
    return sorted(inside, key=lambda a: (a.frame, not a.lasts, a.topic, a.role != "user"))


def _inside(annotation: Annotation, frames: int) -> Annotation:
    """The same, or a problem at the last frame where it begins behind the episode's end."""
    if annotation.frame < frames:
        return annotation
    problem = f"a {annotation.style} begins behind the episode's {frames} frames"
    return replace(annotation, frame=frames - 1, text="", problem=annotation.problem or problem)


class _File:
    """The annotation columns of a data file, taken up batch by batch."""

    def __init__(self, schema: Any) -> None:
        self.lists = [name for name in (PERSISTENT, EVENTS) if name in schema.names]
        self.numbers: dict[str, Any] = {
            field.name: [] for field in schema if _is_numbered(field.name, field.type)
        }
        """Column -> int64 [rows], -1 where null."""

        self.persistent: dict[int, list[Any]] = {}
        """Episode -> its list, from its first row: all its rows hold the same one."""

        self.events: dict[int, list[Any]] = {}
        """Row of the file -> its list; only rows that have something."""

        self.rows = 0

    def add(self, batch: Any) -> None:
        for name, parts in self.numbers.items():
            parts.append(_whole_numbers(batch.column(name)))
        if PERSISTENT in self.lists:
            values = batch.column(PERSISTENT)
            owners = batch.column("episode_index").to_numpy(zero_copy_only=False)
            for episode, place in zip(*np.unique(owners, return_index=True), strict=True):
                if int(episode) not in self.persistent:
                    self.persistent[int(episode)] = _items(values[int(place)])
        if EVENTS in self.lists:
            values = batch.column(EVENTS)
            if not hasattr(values, "value_lengths"):
                raise TypeError(f"column {EVENTS!r} holds {values.type}, no lists of rows")
            for place in np.flatnonzero(values.value_lengths().fill_null(0)):
                self.events[self.rows + int(place)] = _items(values[int(place)])
        self.rows += batch.num_rows


@lru_cache(maxsize=2)
def _file(path: Path, mtime_ns: int) -> _File:
    """In one pass that holds BATCH_ROWS rows."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            found = _File(file.schema_arrow)
            columns = ["episode_index", *found.lists, *found.numbers]
            batches = file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)
            for batch in batches if len(columns) > 1 else ():
                found.add(batch)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise EmtError(f"annotations cannot be read: {error}", where=path) from error
    found.numbers = {name: np.concatenate(parts) for name, parts in found.numbers.items()}
    return found


def _is_numbered(name: str, kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind) and kind.list_size == 1:
        kind = kind.value_type  # some writers keep numbers as vectors of one
    return (name == SUBTASK or name.startswith(NUMBERED)) and pa.types.is_integer(kind)


def _whole_numbers(column: Any) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_fixed_size_list(column.type):
        column = column.flatten()
    return pc.fill_null(pc.cast(column, pa.int64()), -1).to_numpy(zero_copy_only=False)


def _items(cell: Any) -> list[Any]:
    """A cell of a language column as a list. Raises TypeError for a cell of another kind."""
    value = cell.as_py()
    if value is not None and not isinstance(value, list):
        raise TypeError(f"a language column holds {shown(value)}, no list of rows")
    return value or []


def _lasting(said: Any, seconds: np.ndarray) -> Annotation:
    style, role, text, _, problem = _parts(said)
    time = said.get("timestamp") if isinstance(said, dict) else None
    frame = 0
    if not problem:
        if not isinstance(time, int | float) or not np.isfinite(time):
            problem = f"a {style} has timestamp {time!r}"
        else:
            frame = int(np.argmax(np.append(seconds >= time - SAME_TIME_S, True)))
    return Annotation(
        style=style, frame=frame, text="" if problem else text, role=role, problem=problem
    )


def _event(said: Any, frame: int) -> Annotation:
    style, role, text, camera, problem = _parts(said)
    return Annotation(
        style=style,
        frame=frame,
        text=text,
        role=role,
        camera=camera,
        lasts=False,
        problem=problem,
    )


def _parts(said: Any) -> tuple[str, str, str, str, str]:
    """(style, role, text, camera, problem) of a row of a language column."""
    if not isinstance(said, dict):
        return "annotation", "", "", "", f"a row of annotations is {shown(said)}"
    style = said.get("style")
    content = said.get("content")
    spoken = "" if content is not None else _spoken(said.get("tool_calls"))
    style = str(style) if style else "speech" if spoken else "annotation"
    text = encodable(str(spoken if content is None else content)).strip()
    role = str(said.get("role") or "")
    problem = "" if text else f"a {style} has no text"
    if role not in ("user", "assistant"):
        problem = f"a {style} is said by {role!r}, neither user nor assistant"
    return style, role, "" if problem else text, str(said.get("camera") or ""), problem


def _spoken(calls: Any) -> str:
    """The text of LeRobot's tool `say`; "" for any other."""
    for call in calls if isinstance(calls, list) else ():
        try:
            call = json.loads(call) if isinstance(call, str) else call
            function = call["function"]
            if function["name"] == "say":
                return str(function["arguments"]["text"] or "")
        except (KeyError, TypeError, ValueError):
            continue
    return ""


def _numbered(column: str, numbers: np.ndarray, texts: Mapping[int, str]) -> list[Annotation]:
    """An annotation wherever the number changes."""
    style = column.removeprefix(NUMBERED).removesuffix("_index")
    starts = np.flatnonzero(np.diff(numbers, prepend=-1)) if len(numbers) else ()
    found = []
    for frame in map(int, starts):
        number = int(numbers[frame])
        text = encodable(texts.get(number, "")).strip()
        problem = "" if text or number < 0 else f"{column} is {number}, which has no text"
        found.append(Annotation(style=style, frame=frame, text=text, problem=problem))
    return found


@lru_cache(maxsize=2)
def _segments(meta: LeRobotMeta) -> dict[int, list[Annotation]]:
    """Episode -> the subtasks that the episodes table has of it; `subtask_` repeats `sparse_`."""
    found: dict[int, list[Annotation]] = {}
    for path in meta.episode_files() if meta.major == 3 else ():
        for row in _span_rows(path):
            said = found.setdefault(int(row["episode_index"]), [])
            for prefix in PREFIXES:
                texts = row.get(f"{prefix}subtask_names")
                if texts and not (prefix == "" and row.get("sparse_subtask_names")):
                    style = f"{prefix.removeprefix('sparse_')}subtask"
                    said += _spans(style, texts, row.get(f"{prefix}subtask_start_frames"))
    return found


def _span_rows(path: Path) -> list[dict[str, Any]]:
    """The episodes table's rows with what it has of spans; [] without any."""
    from pyarrow import parquet

    try:
        there = set(parquet.read_schema(path).names)
        wanted = [f"{p}subtask_{part}" for p in PREFIXES for part in ("names", "start_frames")]
        spans = [name for name in wanted if name in there]
        return read_table(path, ["episode_index", *spans]).to_pylist() if spans else []
    except (OSError, ValueError) as error:
        raise EmtError(f"subtasks cannot be read: {error}", where=path) from error


def _spans(style: str, texts: Any, starts: Any) -> list[Annotation]:
    lists = isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)
    if not lists or not all(isinstance(frame, int) and frame >= 0 for frame in starts):
        problem = f"{style}: {shown(texts)} begin at {shown(starts)}"
        return [Annotation(style=style, frame=0, text="", problem=problem)]
    return [
        Annotation(style=style, frame=frame, text=encodable(str(text or "")).strip())
        for text, frame in zip(texts, starts, strict=True)
    ]
