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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.data.readers.conversation import encodable, shown
from emt_core.data.readers.lerobot_meta import LeRobotMeta, read_table
from emt_core.errors import EmtError

PERSISTENT = "language_persistent"
EVENTS = "language_events"
LISTS = (PERSISTENT, EVENTS)
SUBTASK = "subtask_index"
NUMBERED = "annotation."
SPOKEN = {"speech": "interjection"}
"""Style of an answer -> style of what it answers."""

PREFIXES = ("sparse_", "dense_", "")
SAME_TIME_S = 1e-3
BATCH_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """Something said of an episode from a frame on, or of that frame alone."""

    style: str
    frame: int
    """The first frame that it is said of."""

    text: str
    role: str = "assistant"
    camera: str = ""
    """Of an annotation that is grounded in the picture of one camera."""

    lasts: bool = True
    """Whether it holds until the next of its style; else for its frame alone."""

    problem: str = ""
    """What is wrong with it; it has no text then. Without either it ends the one before."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """An annotation as a row of the pool: a question about a frame, with its answer."""

    style: str
    frame: int
    camera: str
    question: str
    """ "" where the annotation answers the instruction."""

    answer: str
    """ "" where the question has none."""

    problem: str = ""


def annotations_of(
    meta: LeRobotMeta, path: Path, episode: int, rows: slice, seconds: np.ndarray
) -> list[Annotation]:
    """All annotations of an episode, by frame.

    path: its data file. rows: its rows there. seconds: float64 [frames], their timestamps. Raises
    EmtError where a table or column is not what it promises.
    """
    file = _file(path, path.stat().st_mtime_ns)
    found = [_lasting(said, seconds) for said in file.persistent.get(episode, ())]
    for row, events in file.events.items():
        if rows.start <= row < rows.stop:
            found += [_event(said, row - rows.start) for said in events]
    for column, numbers in file.numbers.items():
        texts = meta.subtasks if column == SUBTASK else meta.tasks
        found += _numbered(column, numbers[rows], texts)
    found += _segments(meta).get(episode, ())
    inside = [_inside(annotation, len(seconds)) for annotation in found]
    return sorted(inside, key=lambda annotation: annotation.frame)


def _inside(annotation: Annotation, frames: int) -> Annotation:
    """The same, or a problem at the last frame where it begins behind the episode's end."""
    if annotation.frame < frames:
        return annotation
    problem = f"a {annotation.style} begins behind the episode's {frames} frames"
    return replace(annotation, frame=frames - 1, text="", problem=annotation.problem or problem)


def at_frame(annotations: Sequence[Annotation], frame: int) -> list[Annotation]:
    """What is said of one frame: the latest of each lasting style, and what happened there."""
    lasting = {a.style: a for a in annotations if a.lasts and a.frame <= frame}
    latest = [
        a for a in annotations if a.lasts and a.frame <= frame and a.frame == lasting[a.style].frame
    ]
    return [*latest, *(a for a in annotations if not a.lasts and a.frame == frame)]


def questions(annotations: Sequence[Annotation]) -> Iterator[Told]:
    """Annotations as questions and answers, in order: what a user says of a frame, with what the
    assistant says in the same style, or in speech; else the assistant answers the instruction."""

    def key(annotation: Annotation) -> tuple[int, str, str]:
        style = SPOKEN.get(annotation.style, annotation.style)
        return annotation.frame, style, annotation.camera

    for (frame, style, camera), group in groupby(sorted(annotations, key=key), key):
        said = list(group)
        broken = [a for a in said if a.problem]
        asked = [a.text for a in said if a.text and a.role == "user"]
        answers = [a.text for a in said if a.text and a.role != "user"]
        for question, answer in zip_longest(asked, answers, fillvalue=""):
            yield Told(style=style, frame=frame, camera=camera, question=question, answer=answer)
        for one in broken:
            yield Told(
                style=style, frame=frame, camera=camera, question="", answer="", problem=one.problem
            )


@dataclass(frozen=True)
class _File:
    """The annotation columns of a data file."""

    persistent: Mapping[int, list[Any]]
    """Episode -> its list, from its first row: all its rows hold the same one."""

    events: Mapping[int, list[Any]]
    """Row of the file -> its list; only rows that have something."""

    numbers: Mapping[str, np.ndarray]
    """Column -> int64 [rows], -1 where null."""


@lru_cache(maxsize=2)
def _file(path: Path, mtime_ns: int) -> _File:
    """In one pass that holds BATCH_ROWS rows."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import parquet

    persistent: dict[int, list[Any]] = {}
    events: dict[int, list[Any]] = {}
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            numbers = {name: [] for name in schema.names if _holds_numbers(schema.field(name))}
            lists = [name for name in LISTS if name in schema.names]
            if not numbers and not lists:
                return _File({}, {}, {})
            at = 0
            wanted = ["episode_index", *lists, *numbers]
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False):
                for name, parts in numbers.items():
                    parts.append(_whole_numbers(batch.column(name)))
                if PERSISTENT in lists:
                    _first_of_each(batch, persistent)
                if EVENTS in lists:
                    values = batch.column(EVENTS)
                    filled = pc.fill_null(pc.greater(pc.list_value_length(values), 0), False)
                    for place in np.flatnonzero(filled.to_numpy(zero_copy_only=False)):
                        events[at + int(place)] = values[int(place)].as_py()
                at += batch.num_rows
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise EmtError(f"annotations cannot be read: {error}", where=path) from error
    odd = next((said for said in persistent.values() if not isinstance(said, list)), None)
    if odd is not None:
        raise EmtError(f"column {PERSISTENT!r} holds {shown(odd)}, no list of rows", where=path)
    return _File(persistent, events, {name: np.concatenate(p) for name, p in numbers.items()})


def _holds_numbers(field: Any) -> bool:
    import pyarrow as pa

    named = field.name == SUBTASK or field.name.startswith(NUMBERED)
    return named and pa.types.is_integer(field.type)


def _whole_numbers(column: Any) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.fill_null(pc.cast(column, pa.int64()), -1).to_numpy(zero_copy_only=False)


def _first_of_each(batch: Any, persistent: dict[int, list[Any]]) -> None:
    owners = batch.column("episode_index").to_numpy(zero_copy_only=False)
    values = batch.column(PERSISTENT)
    for episode, place in zip(*np.unique(owners, return_index=True), strict=True):
        if int(episode) not in persistent:
            persistent[int(episode)] = values[int(place)].as_py() or []


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
    return style, role, text, str(said.get("camera") or ""), problem


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
    wanted = [f"{p}subtask_{part}" for p in PREFIXES for part in ("names", "start_frames")]
    for path in meta.episode_files() if meta.major == 3 else ():
        for row in read_table(path, ["episode_index", *wanted], optional=True).to_pylist():
            said = found.setdefault(int(row["episode_index"]), [])
            for prefix in PREFIXES:
                texts = row.get(f"{prefix}subtask_names")
                if texts and not (prefix == "" and row.get("sparse_subtask_names")):
                    style = f"{prefix.removeprefix('sparse_')}subtask"
                    said += _spans(style, texts, row.get(f"{prefix}subtask_start_frames"))
    return found


def _spans(style: str, texts: Any, starts: Any) -> list[Annotation]:
    frames = starts if isinstance(starts, list) and len(starts) == len(texts) else []
    if not frames:
        problem = f"{style}: {len(texts)} names, but not as many first frames"
        return [Annotation(style=style, frame=0, text="", problem=problem)]
    return [
        Annotation(style=style, frame=int(frame), text=encodable(str(text)).strip())
        for text, frame in zip(texts, frames, strict=True)
    ]
