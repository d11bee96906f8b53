"""What all exporters share: the rows and pictures they get, conversations, table columns."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from emt_core.data.sample import Sample, Turn

PLACEHOLDER = "<image>"
READ = "read it in Python: "
TRAIN = "train with: "
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
    """One image of a row: with `content` where it goes inside, else `path` in the export folder."""

    suffix: str
    path: str = ""
    content: bytes | None = None


class Exporter(ABC):
    title: ClassVar[str]
    """The format's name for readers."""

    modes: ClassVar[tuple[str, ...]]
    """How images can be held: `copy` and `link` put files beside the data, `embed` bytes inside."""
    inside: bool
    """Pictures come with their content instead of a path."""

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        """facts: `backbone` (name or folder, "" for none), `name` and `key` of the selection, `out`
        (where `folder` is moved when it is complete)."""
        self.folder = folder
        self.out: Path = facts["out"]
        self.facts = facts
        self.inside = images == "embed"

    def problem(self, sample: Sample) -> str | None:
        """Why this row cannot be told in the format (a short name that is counted), or None."""
        turns = [turn for turn in sample.turns if turn.role != "system"]
        if not turns or turns[-1].role != "assistant":
            return "no_answer"
        placeholders = sum(turn.text.count(PLACEHOLDER) for turn in sample.turns)
        if placeholders not in (0, len(sample.images)):
            return "image_count_mismatch"
        return None

    @abstractmethod
    def write(self, row: Row, pictures: list[Picture]) -> None: ...

    @abstractmethod
    def close(self) -> list[str]:
        """Finish all files. Returns notes for whoever asked for the export, with the line of Python
        (READ) or of the shell (TRAIN) that reads what was written."""


def settled_turns(sample: Sample) -> list[Turn]:
    """The turns with as many `<image>` as images.

    Where there is none, they are put before the first user turn.
    """
    turns = list(sample.turns)
    if sample.images and not any(PLACEHOLDER in turn.text for turn in turns):
        first = next(i for i, turn in enumerate(turns) if turn.role == "user")
        lines = [PLACEHOLDER] * len(sample.images)
        if turns[first].text:
            lines.append(turns[first].text)
        turns[first] = Turn(role="user", text="\n".join(lines))
    return turns


def conversation(sample: Sample) -> list[dict[str, str]]:
    """[{"from": "system" | "human" | "gpt", "value": ...}]."""
    return [{"from": SPEAKERS[turn.role], "value": turn.text} for turn in settled_turns(sample)]


def human_and_gpt(sample: Sample) -> list[dict[str, str]]:
    """The conversation for trainers that know no system turn: it goes before the first question."""
    turns = conversation(sample)
    if turns[0]["from"] != "system":
        return turns
    system, first, *rest = turns
    return [{"from": "human", "value": f"{system['value']}\n\n{first['value']}"}, *rest]


def provenance_columns(row: Row) -> dict[str, Any]:
    """Where a row comes from and why it is in; beside the conversation where a format has room."""
    sample = row.sample
    return {
        "id": sample.id,
        "own_id": sample.own_id,
        "source": sample.source,
        "category": row.category,
        "rank": row.rank,
        "logit": row.logit,
    }


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
    """A row of TABLE_SCHEMA. An embedded image keeps a file name, which shows its format."""
    images = [
        {"bytes": picture.content, "path": picture.path or f"{place}{picture.suffix}"}
        for place, picture in enumerate(pictures)
    ]
    meta = json.dumps(dict(row.sample.meta), ensure_ascii=False, sort_keys=True)
    return {
        **provenance_columns(row),
        "conversations": conversation(row.sample),
        "images": images,
        "meta": meta if row.sample.meta else "",
    }


class TableExporter(Exporter):
    """Rows of TABLE_SCHEMA in shards, written ROWS rows or BYTES of images at a time."""

    ROWS, BYTES = 1000, 64 * 2**20
    SHARD_BYTES = 512 * 2**20
    """Images of a shard, at the most."""

    schema = TABLE_SCHEMA

    def __init__(self, folder: Path, *, images: str, facts: dict[str, Any]) -> None:
        super().__init__(folder, images=images, facts=facts)
        self.shards: list[Path] = []
        self._writer: Any = None
        self._records: list[dict[str, Any]] = []
        self._waiting = 0
        """Bytes of images in the buffer."""
        self._in_shard = 0

    @abstractmethod
    def open_shard(self, number: int) -> tuple[Path, Any]:
        """(path, pyarrow writer) of the next shard."""

    def write(self, row: Row, pictures: list[Picture]) -> None:
        self._records.append(table_record(row, pictures))
        self._waiting += sum(len(picture.content or b"") for picture in pictures)
        if len(self._records) >= self.ROWS or self._waiting >= self.BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._records:
            if self._writer is None:
                path, self._writer = self.open_shard(len(self.shards))
                self.shards.append(path)
                self._in_shard = 0
            self._writer.write_table(pa.Table.from_pylist(self._records, schema=self.schema))
            self._in_shard += self._waiting
            self._waiting = 0
            self._records = []
            if self._in_shard >= self.SHARD_BYTES:
                self._close_shard()

    def _close_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def close(self) -> list[str]:
        self._flush()
        self._close_shard()
        return []


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
