"""The sources index: a row a sample, sources one after another; later artifacts keep the order.

<sources artifact>/data/index.lance      rows as in SCHEMA
<sources artifact>/data/rejects.jsonl    a line each: {"id", "source", "row", "reason", ...}
<sources artifact>/data/sources.json     [{"name", "role", "format", "start", "stop", "seen", ...}]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from emt_core.data.sample import ImageRef, Sample, Turn
from emt_core.errors import EmtError
from emt_core.recipe.ids import format_ids, parse_ids
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.files import read_json
from emt_core.workspace.table import Table

IMAGE_TYPE = pa.struct(
    [
        ("kind", pa.string()),
        ("path", pa.string()),
        ("member", pa.string()),
        ("index", pa.int64()),
        ("time", pa.float64()),
        ("position", pa.int32()),
        ("edit", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("role", pa.string()),
        ("row", pa.int64()),
        ("own_id", pa.string()),
        ("turns", pa.list_(pa.struct([("role", pa.string()), ("text", pa.string())]))),
        ("images", pa.list_(IMAGE_TYPE)),
        ("n_images", pa.int32()),
        ("text_chars", pa.int32()),  # length of all turns: what batches are sorted by
        ("episode", pa.int64()),
        ("frame", pa.int64()),
        ("meta", pa.string()),  # JSON object
    ]
)


def to_record(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "source": sample.source,
        "role": sample.role,
        "row": sample.row,
        "own_id": sample.own_id,
        "turns": [{"role": turn.role, "text": turn.text} for turn in sample.turns],
        "images": [
            {name: getattr(ref, name) for name in IMAGE_TYPE.names} for ref in sample.images
        ],
        "n_images": len(sample.images),
        "text_chars": sum(len(turn.text) for turn in sample.turns),
        "episode": sample.episode,
        "frame": sample.frame,
        "meta": json.dumps(dict(sample.meta), ensure_ascii=False, sort_keys=True)
        if sample.meta
        else "",
    }


def from_record(record: dict[str, Any]) -> Sample:
    return Sample(
        source=record["source"],
        row=record["row"],
        role=record["role"],
        turns=tuple(Turn(**turn) for turn in record["turns"]),
        images=tuple(ImageRef(**ref) for ref in record["images"]),
        own_id=record["own_id"],
        episode=record["episode"],
        frame=record["frame"],
        meta=json.loads(record["meta"]) if record["meta"] else {},
    )


@dataclass(frozen=True)
class SourceRange:
    """A source's rows of the index: [start, stop)."""

    name: str
    role: str
    start: int
    stop: int
    facts: dict[str, Any]
    """Everything `sources.json` says of it: format, root, seen, kept, rejects, digest, ..."""

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def root(self) -> Path:
        """Folder that image references are relative to."""
        return Path(self.facts["root"])

    @property
    def max_pixels(self) -> int:
        """Larger images of this source are not decoded."""
        return self.facts["max_pixels"]


class Index:
    """Read side of a sources artifact."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.table = Table(artifact.data / "index.lance")

    @property
    def rows(self) -> int:
        return self.artifact.rows

    @cached_property
    def sources(self) -> list[SourceRange]:
        return [
            SourceRange(name=s["name"], role=s["role"], start=s["start"], stop=s["stop"], facts=s)
            for s in read_json(self.artifact.data / "sources.json")
        ]

    def config_of(self, source: SourceRange) -> dict[str, Any]:
        """The configuration that a source was read with."""
        return next(
            config for config in self.artifact.config["sources"] if config["name"] == source.name
        )

    def of_role(self, role: str) -> list[SourceRange]:
        return [source for source in self.sources if source.role == role]

    def source_of(self, row: int) -> SourceRange:
        for source in self.sources:
            if source.start <= row < source.stop:
                return source
        raise IndexError(f"row {row} is outside the index")

    def codes(self) -> np.ndarray:
        """int16 [rows]: place in `sources` of each row."""
        return np.repeat(
            np.arange(len(self.sources), dtype=np.int16), [source.rows for source in self.sources]
        )

    def is_pool(self) -> np.ndarray:
        """bool [rows]."""
        return np.repeat(
            [source.role == "pool" for source in self.sources],
            [source.rows for source in self.sources],
        )

    def samples(self, rows: Sequence[int] | np.ndarray) -> list[Sample]:
        """The samples of these rows, in this order."""
        return [from_record(record) for record in self.table.take(rows).to_pylist()]

    def iterate(
        self, start: int = 0, stop: int | None = None, batch_rows: int = 2048
    ) -> Iterator[tuple[int, Sample]]:
        """(row, sample) for rows [start, stop), streaming."""
        at = start
        for batch in self.table.scan(SCHEMA.names, start=start, stop=stop, batch_rows=batch_rows):
            for record in batch.to_pylist():
                yield at, from_record(record)
                at += 1

    def row_of(self, sample_id: str) -> int:
        """The index row of an id, by binary search: ids grow with the row inside each source."""
        name, _, number = sample_id.rpartition(":")
        source = next((s for s in self.sources if s.name == name), None)
        if source is None or not number.isdecimal():
            raise EmtError(f"there is no sample {sample_id!r}", remedy="an id is `source:row`")
        low = source.start
        high = source.stop
        wanted = int(number)
        while low < high:
            middle = (low + high) // 2
            found = self.table.take([middle], ["row"]).column(0)[0].as_py()
            if found == wanted:
                return middle
            low, high = (middle + 1, high) if found < wanted else (low, middle)
        raise EmtError(
            f"there is no sample {sample_id!r}",
            where=self.artifact.path,
            remedy="it may have been rejected",
        )

    def rows_of(self, entries: Sequence[str]) -> np.ndarray:
        """int64: rising index rows of many ids, each `source:row` or `source:3,7,10-19`.

        A range takes the rows that are there; an id on its own has to be there. One read of a
        narrow column a source. Raises EmtError that names the first id without a sample.
        """
        own: dict[str, tuple[int, np.ndarray]] = {}
        found = [np.empty(0, np.int64)]
        for entry in entries:
            asked = parse_ids(entry)
            if asked.source not in own:
                source = next((s for s in self.sources if s.name == asked.source), None)
                if source is None:
                    raise EmtError(
                        f"there is no sample {entry[:60]!r}",
                        remedy=f"there is no source {asked.source!r}",
                    )
                column = self.table.column("row", start=source.start, stop=source.stop)
                own[asked.source] = (source.start, column.astype(np.int64))
            start, rows = own[asked.source]
            low = np.searchsorted(rows, asked.first)
            high = np.searchsorted(rows, asked.last, side="right")
            missing = (low == high) & (asked.first == asked.last)
            if missing.any():
                gone = f"{asked.source}:{asked.first[missing][0]}"
                raise EmtError(
                    f"there is no sample {gone!r}",
                    where=self.artifact.path,
                    remedy="it may have been rejected",
                )
            counts = high - low
            inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            found.append(start + np.repeat(low, counts) + inside)
        return np.unique(np.concatenate(found))

    def packed_ids(self, rows: np.ndarray) -> tuple[str, ...]:
        """Index rows (any order) as one entry a source that `rows_of` reads back."""
        wanted = np.unique(np.asarray(rows, np.int64))
        found = []
        for source in self.sources:
            mine = wanted[
                np.searchsorted(wanted, source.start) : np.searchsorted(wanted, source.stop)
            ]
            if len(mine):
                own = self.table.column("row", start=source.start, stop=source.stop)[
                    mine - source.start
                ]
                after = np.concatenate([[False], np.diff(mine) == 1])
                found.append(format_ids(source.name, own.astype(np.int64), after=after))
        return tuple(found)
