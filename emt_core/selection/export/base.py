"""What all exporters share: the row they get, the pictures that go with it, and the columns of
table formats."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from emt_core.data.sample import Sample, Turn

PLACEHOLDER = "<image>"
SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One selected sample. rank: 0 = best. logit: None where nothing was ranked."""

    sample: Sample
    index_row: int
    rank: int
    logit: float | None
    category: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image of a row: `content` where the format holds images inside, else `path` relative to
    the export folder."""

    suffix: str
    path: str = ""
    content: bytes | None = None


class Exporter(ABC):
    modes: ClassVar[tuple[str, ...]]
    """How images can be held: `copy` and `link` put files beside the data, `embed` puts bytes
    inside."""
    inside: bool
    """Pictures come with their content instead of a path."""

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        """facts: `backbone` (name or folder, "" for none) and `name` of the selection."""
        self.folder, self.facts = folder, facts
        self.inside = images == "embed"

    def problem(self, sample: Sample) -> str | None:
        """Why this row cannot be told in the format (a short name that is counted), or None."""
        turns = [turn for turn in sample.turns if turn.role != "system"]
        if not turns or turns[-1].role != "assistant":
            return "no_answer"
        if sum(turn.text.count(PLACEHOLDER) for turn in sample.turns) not in (
            0,
            len(sample.images),
        ):
            return "image_count_mismatch"
        return None

    @abstractmethod
    def write(self, row: Row, pictures: list[Picture]) -> None: ...

    @abstractmethod
    def close(self) -> list[str]:
        """Finish all files. Returns notes for whoever asked for the export."""


def settled_turns(sample: Sample) -> list[Turn]:
    """The turns with as many `<image>` as images: where there is none, they stand before the first
    user turn."""
    turns = list(sample.turns)
    if sample.images and not any(PLACEHOLDER in turn.text for turn in turns):
        first = next(i for i, turn in enumerate(turns) if turn.role == "user")
        text = "\n".join(
            [PLACEHOLDER] * len(sample.images) + ([turns[first].text] if turns[first].text else [])
        )
        turns[first] = Turn(role="user", text=text)
    return turns


def conversation(sample: Sample) -> list[dict[str, str]]:
    """[{"from": "system" | "human" | "gpt", "value": ...}]."""
    return [{"from": SPEAKERS[turn.role], "value": turn.text} for turn in settled_turns(sample)]


def provenance_columns(row: Row) -> dict[str, Any]:
    """Where a row comes from and why it is in: beside the conversation in every format that allows
    more keys."""
    sample = row.sample
    facts = {
        "id": sample.id,
        "own_id": sample.own_id,
        "source": sample.source,
        "category": row.category,
    }
    return {**facts, "rank": row.rank, "logit": row.logit}


TABLE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("own_id", pa.string()),
        ("source", pa.string()),
        ("category", pa.string()),
        ("rank", pa.int64()),
        ("logit", pa.float32()),
        ("conversations", pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))),
        ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
        ("meta", pa.string()),
    ]
)


def table_record(row: Row, pictures: list[Picture]) -> dict[str, Any]:
    """A row of TABLE_SCHEMA. An embedded image keeps a file name, so that its format stays
    known."""
    images = [
        {"bytes": picture.content, "path": picture.path or f"{place}{picture.suffix}"}
        for place, picture in enumerate(pictures)
    ]
    meta = (
        json.dumps(dict(row.sample.meta), ensure_ascii=False, sort_keys=True)
        if row.sample.meta
        else ""
    )
    return {
        **provenance_columns(row),
        "conversations": conversation(row.sample),
        "images": images,
        "meta": meta,
    }


class TableBuffer:
    """Rows that wait for the next write: at most ROWS of them and BYTES of images."""

    ROWS, BYTES = 1000, 64 * 2**20

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.bytes = 0

    def add(self, row: Row, pictures: list[Picture]) -> bool:
        """True when it is time to write."""
        self.records.append(table_record(row, pictures))
        self.bytes += sum(len(picture.content or b"") for picture in pictures)
        return len(self.records) >= self.ROWS or self.bytes >= self.BYTES

    def drain(self, schema: pa.Schema) -> pa.Table:
        table = pa.Table.from_pylist(self.records, schema=schema)
        self.records, self.bytes = [], 0
        return table


class JsonArray:
    """A JSON array on disk, written one element at a time."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", encoding="utf-8")
        self.file.write("[")
        self.count = 0

    def write(self, value: Any) -> None:
        self.file.write(",\n" if self.count else "\n")
        json.dump(value, self.file, ensure_ascii=False, allow_nan=False)
        self.count += 1

    def close(self) -> None:
        self.file.write("\n]\n")
        self.file.close()
