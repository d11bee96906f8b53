"""Writes the index of the `sources` stage, so that a kill loses nothing that was committed.

index.lance      the samples (data/index.py); appended to commit by commit
rejects.jsonl    {"id", "source", "row", "own_id", "reason", "detail"} a line
finished.json    what is known of the sources that are complete, while others are still read

Rejects are written before the samples of the same commit: the index never reaches further than the
rejects file, and what that holds beyond the index is dropped and found again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from emt_core.data.index import SCHEMA, to_record
from emt_core.data.sample import Reject, Sample
from emt_core.workspace.files import read_json
from emt_core.workspace.table import Table

FINISHED = "finished.json"


@dataclass
class Tally:
    """What was seen of one source."""

    start: int
    """Its first row in the index."""
    last_row: int = -1
    """Its last committed row, counted in the source; -1 if none."""
    kept: int = 0
    text_only: int = 0
    multi_image: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    """Reason -> rows."""
    example: str = ""
    """The first reject, for an error."""

    @property
    def seen(self) -> int:
        return self.kept + self.rejects.total()


def totals(sources: list[dict[str, Any]]) -> dict[str, Any]:
    """The manifest's metrics: counts over all sources (entries of sources.json)."""
    rejects: Counter[str] = Counter()
    kept = Counter[str](pool=0, robot=0)
    for source in sources:
        rejects.update(source["rejects"])
        kept[source["role"]] += source["kept"]
    names = ("seen", "text_only", "multi_image")
    sums = {name: sum(source[name] for source in sources) for name in names}
    return {"sources": len(sources), **kept, **sums, "rejects": dict(rejects.most_common())}


class IndexWriter:
    """Appends samples and rejects, source by source: `begin`, any number of `add`, `commit`."""

    def __init__(self, out: Path, commit_rows: int) -> None:
        self.out = out
        self.commit_rows = commit_rows
        self.table = Table(out / "index.lance")
        self.rejects = out / "rejects.jsonl"
        if self.table.exists() and not self.table.schema.equals(SCHEMA):
            self._begin_anew()
        self.rows = self.table.rows
        self._samples: list[pa.RecordBatch] = []
        self._pending = 0
        self._rejects: list[Reject] = []
        self._tally = Tally(start=0)

    def _begin_anew(self) -> None:
        """Drop what an older version of the program began: its rows have other columns."""
        (self.out / FINISHED).unlink(missing_ok=True)
        self.rejects.unlink(missing_ok=True)
        shutil.rmtree(self.table.path)
        self.table = Table(self.table.path)

    def resume(self) -> list[dict[str, Any]]:
        """Entries of the sources that an earlier run finished."""
        finished = self.out / FINISHED
        return read_json(finished) if finished.exists() else []

    def begin(self, source: str) -> Tally:
        """Start a source, or go on where an interrupted run left it."""
        finished = self.resume()
        tally = Tally(start=finished[-1]["stop"] if finished else 0)
        if self.rows > tally.start:
            images = self.table.column("n_images", start=tally.start, stop=self.rows)
            tally.kept = len(images)
            tally.text_only = int((images == 0).sum())
            tally.multi_image = int((images > 1).sum())
            tally.last_row = self.table.take([self.rows - 1], ["row"]).column(0)[0].as_py()
        self._keep_rejects({entry["name"] for entry in finished}, source, tally)
        self._tally = tally
        return tally

    def add(self, batch: list[Sample | Reject]) -> None:
        """Takes rows of the source; commits once commit_rows samples or rejects have gathered."""
        records = []
        for row in batch:
            if isinstance(row, Reject):
                self._rejects.append(row)
                self._tally.rejects[row.reason] += 1
                self._tally.example = self._tally.example or f"row {row.row}: {row.detail}"
                continue
            records.append(to_record(row))
            self._tally.kept += 1
            self._tally.text_only += not row.images
            self._tally.multi_image += len(row.images) > 1
        if records:
            self._samples.append(pa.RecordBatch.from_pylist(records, schema=SCHEMA))
            self._pending += len(records)
        if self._pending >= self.commit_rows or len(self._rejects) >= self.commit_rows:
            self.commit()

    def commit(self) -> None:
        """Write what waits, rejects first."""
        with self.rejects.open("a", encoding="utf-8") as file:
            for reject in self._rejects:
                line = {"id": reject.id, **asdict(reject)}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self._samples:
            self.table.append(pa.Table.from_batches(self._samples, schema=SCHEMA))
        self.rows += self._pending
        self._samples = []
        self._pending = 0
        self._rejects = []

    def _keep_rejects(self, finished: set[str], source: str, tally: Tally) -> None:
        """Drop rejects beyond the index (their rows are read again) and count those that stay."""
        aside = self.rejects.with_suffix(".tmp")
        with aside.open("w", encoding="utf-8") as kept:
            for entry in self._written_rejects():
                committed = entry["source"] == source and entry["row"] <= tally.last_row
                if committed:
                    tally.rejects[entry["reason"]] += 1
                    tally.example = tally.example or f"row {entry['row']}: {entry['detail']}"
                if committed or entry["source"] in finished:
                    kept.write(json.dumps(entry, ensure_ascii=False) + "\n")
        aside.replace(self.rejects)

    def _written_rejects(self) -> Iterator[dict[str, Any]]:
        if self.rejects.exists():
            with self.rejects.open("rb") as file:  # a kill can leave half a line at the end
                yield from (json.loads(line) for line in file if line.endswith(b"\n"))
