"""LLaMA-Factory ShareGPT: rows named by an entry of `dataset_info.json`.

    {"mine": {"file_name": "mine.json", "formatting": "sharegpt",
              "columns": {"messages": "conversations", "images": "images", "system": "system"},
              "tags": {"role_tag": "from", "content_tag": "value",
                       "user_tag": "human", "assistant_tag": "gpt"}}}

As in LLaMA-Factory: an entry without `columns` has `conversations` alone; once `columns` is there,
what it omits is *none*; relative image paths join `media_dir`; the number of `<image>` must equal
the number of images.
`file_name` may be a JSON array, JSON lines, or a folder of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from emt_core.data.file_kind import real_files
from emt_core.data.fingerprint import FileSet
from emt_core.data.paths import PathLeavesRoot, data_file
from emt_core.data.readers.conversation import (
    RowProblem,
    build_sample,
    encodable,
    parse_turns,
    sample_or_reject,
    shown,
)
from emt_core.data.readers.fields import file_refs, refuse
from emt_core.data.readers.json_stream import id_in, object_of, stream_rows
from emt_core.data.sample import Reject, Sample, Speaker, Turn
from emt_core.errors import EmtError
from emt_core.recipe.sources import ShareGPTSource
from emt_core.workspace.files import read_json

PREFERENCE = ("kto_tag", "chosen", "rejected")
"""Columns of an entry that only a preference set has."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of dataset_info.json, resolved; a column of None means that the data have none."""

    rows: tuple[Path, ...]
    messages: str
    images: str | None
    system: str | None
    role_tag: str
    content_tag: str
    speakers: Mapping[str, Speaker]


def load_entry(source: ShareGPTSource, data: Path) -> Entry:
    """Raises EmtError that names what is missing or not supported."""
    info_path = data / "dataset_info.json" if data.is_dir() else data
    if not info_path.is_file():
        raise EmtError(
            "there is no dataset_info.json",
            where=data,
            remedy="`path` is the folder that LLaMA-Factory's --dataset_dir names",
        )
    info = read_json(info_path)
    entry = info.get(source.dataset) if isinstance(info, dict) else None
    if not isinstance(entry, dict):
        known = ", ".join(sorted(info)[:20]) if isinstance(info, dict) else "none"
        raise EmtError(
            f"dataset_info.json has no entry {source.dataset!r}",
            where=info_path,
            remedy=f"it has: {known}",
        )
    where = f"{info_path}, entry {source.dataset!r}"
    if entry.get("formatting", "alpaca") not in ("sharegpt", "openai"):
        raise EmtError(
            f"formatting {entry.get('formatting', 'alpaca')!r} is not read",
            where=where,
            remedy="convert it to sharegpt",
        )
    columns = entry.get("columns") or {"messages": "conversations"}
    tags = entry.get("tags") or {}
    for name, value in (("columns", columns), ("tags", tags)):
        if not isinstance(value, dict):
            raise EmtError(f"{name!r} is no object, but {shown(value)}", where=where)
        odd = [key for key, word in value.items() if not isinstance(word, str | None)]
        if odd:
            raise EmtError(
                f"{odd[0]!r} of {name!r} is no text, but {shown(value[odd[0]])}", where=where
            )
    preference = [name for name in PREFERENCE if columns.get(name)]
    if entry.get("ranking") or preference:
        raise EmtError(
            f"a preference set ({', '.join(preference) or 'ranking'}) is no mid-training data",
            where=where,
            remedy="write its good answers to a set of their own",
        )
    for unread in ("videos", "audios"):
        if columns.get(unread):
            raise EmtError(
                f"the column {unread!r} is not read",
                where=where,
                remedy="leave it out of `columns`: rows with <video> or <audio> are then rejected",
            )
    if not columns.get("messages"):
        raise EmtError(
            "columns has no 'messages'",
            where=where,
            remedy="say which column holds the conversation",
        )
    openai = entry.get("formatting") == "openai"
    speakers: dict[str, Speaker] = {
        tags.get("user_tag", "user" if openai else "human"): "user",
        tags.get("assistant_tag", "assistant" if openai else "gpt"): "assistant",
        tags.get("system_tag", "system"): "system",
    }
    return Entry(
        rows=_row_files(entry, info_path.parent, where),
        messages=columns["messages"],
        images=columns.get("images"),
        system=columns.get("system"),
        role_tag=tags.get("role_tag", "role" if openai else "from"),
        content_tag=tags.get("content_tag", "content" if openai else "value"),
        speakers=speakers,
    )


def _row_files(entry: Mapping[str, Any], folder: Path, where: str) -> tuple[Path, ...]:
    name = entry.get("file_name")
    if not isinstance(name, str):
        raise EmtError(
            "the entry names no local file", where=where, remedy="read hub sets with format: hf"
        )
    try:
        path = folder / data_file(name, folder)
    except PathLeavesRoot as error:
        raise EmtError(f"file_name cannot be read: {error}", where=where) from error
    if path.is_dir():
        rows = (p for p in path.iterdir() if p.suffix in (".json", ".jsonl"))
        found = tuple(real_files(rows, path))
        if not found:
            raise EmtError("the folder holds no .json or .jsonl file", where=path)
        return found
    if not path.is_file():
        raise EmtError("the data file is missing", where=path, remedy=f"it is named by {where}")
    if path.suffix not in (".json", ".jsonl"):
        raise EmtError(
            f"file type {path.suffix!r} is not read", where=path, remedy="use .json or .jsonl"
        )
    return (path,)


def loose_images(source: ShareGPTSource, data: Path) -> bool:
    return True


def image_root(source: ShareGPTSource, data: Path) -> Path:
    folder = data if data.is_dir() else data.parent
    return (folder / source.media_dir).absolute()


def files(source: ShareGPTSource, data: Path) -> FileSet:
    folder = data if data.is_dir() else data.parent
    info = data / "dataset_info.json" if data.is_dir() else data
    return FileSet(base=folder, index=(info, *load_entry(source, data).rows))


def count(source: ShareGPTSource, data: Path) -> int | None:
    return None


def read(source: ShareGPTSource, data: Path) -> Iterator[Sample | Reject]:
    entry = load_entry(source, data)
    root = image_root(source, data)
    row = 0
    for path in entry.rows:
        for _, record in stream_rows(path):
            make = partial(_sample, source, entry, root, row, record)
            yield sample_or_reject(source.name, row, id_in(record, "id"), make)
            row += 1


def _sample(source: ShareGPTSource, entry: Entry, root: Path, row: int, record: Any) -> Sample:
    record = object_of(record)
    if entry.messages not in record:
        raise RowProblem(
            "unreadable_row",
            f"the row has no column {entry.messages!r}; it has {sorted(record)[:10]}",
        )
    refuse(record)
    turns = parse_turns(
        record[entry.messages],
        role_tags=(entry.role_tag,),
        content_tags=(entry.content_tag,),
        speakers=entry.speakers,
    )
    system = record.get(entry.system) if entry.system else None
    if isinstance(system, str) and system and turns[0].role != "system":
        turns = (Turn(role="system", text=encodable(system)), *turns)
    used = {"id", entry.messages, entry.images, entry.system}
    return build_sample(
        source=source.name,
        row=row,
        role=source.role,
        turns=turns,
        images=file_refs(record.get(entry.images), root) if entry.images else (),
        missing="reject",
        own_id=record.get("id"),
        meta={name: value for name, value in record.items() if name not in used},
    )
