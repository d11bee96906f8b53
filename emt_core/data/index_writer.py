"""TODO."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from emt_core.data.index import SCHEMA, to_record
from emt_core.data.sample import Reject, Sample
from emt_core.workspace.files import read_json
from emt_core.workspace.table import Table


@dataclass
class Tally:
    """What was seen of one source. start: its first row in the index; last_row: its last committed row, -1 if none."""

    start: int
    last_row: int = -1
    kept: int = 0
    text_only: int = 0
    multi_image: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    example: str = ""

    @property
    def seen(self) -> int:
        return self.kept + self.rejects.total()


class IndexWriter:
    """Appends samples and rejects so that a kill at any moment loses nothing that was committed."""

    def __init__(self, out: Path, commit_rows: int) -> None:
        self.out, self.commit_rows = out, commit_rows
        self.table = Table(out / "index.lance")
        self.rejects = out / "rejects.jsonl"
        self.rows = self.table.rows
        self._samples: list[pa.RecordBatch] = []
        self._pending = 0
        self._rejects: list[Reject] = []
        self._tally = Tally(start=0)

    def resume(self) -> list[dict[str, Any]]:
        """Facts of the sources that an earlier run finished."""
        finished = self.out / FINISHED
        return read_json(finished) if finished.exists() else []

    def begin(self, source: str) -> Tally:
        """Start a source, or go on where an interrupted run left it."""
        facts = self.resume()
        self._tally = tally = Tally(start=facts[-1]["stop"] if facts else 0)
        if self.rows > tally.start:
            images = self.table.column("n_images", start=tally.start, stop=self.rows)
            tally.kept = len(images)
            tally.text_only, tally.multi_image = int(np.sum(images == 0)), int(np.sum(images > 1))
            tally.last_row = self.table.take([self.rows - 1], ["row"]).column(0)[0].as_py()
        self._keep_rejects({entry["name"] for entry in facts}, source, tally)
        return tally

    def _keep_rejects(self, finished: set[str], source: str, tally: Tally) -> None:
        """Drop rejects beyond the index: their rows are read again."""
        aside = self.rejects.with_suffix(".tmp")
        with aside.open("w", encoding="utf-8") as kept:
            for entry in self._written():
                ours = entry["source"] == source and entry["row"] <= tally.last_row
                if ours:
                    tally.rejects[entry["reason"]] += 1
                    tally.example = tally.example or f"row {entry['row']}: {entry['detail']}"
                if ours or entry["source"] in finished:
                    kept.write(json.dumps(entry, ensure_ascii=False) + "\n")
        aside.replace(self.rejects)

    def _written(self) -> Iterator[dict[str, Any]]:
        if self.rejects.exists():
            with self.rejects.open("rb") as file:  # a kill can leave half a line at the end
                yield from (json.loads(line) for line in file if line.endswith(b"\n"))

    def add(self, batch: list[Sample | Reject]) -> None:
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
        """Rejects first: the index never reaches further than the rejects file."""
        with self.rejects.open("a", encoding="utf-8") as file:
            for reject in self._rejects:
                file.write(
                    json.dumps({"id": reject.id, **asdict(reject)}, ensure_ascii=False) + "\n"
                )
            file.flush()
            os.fsync(file.fileno())
        if self._samples:
            self.table.append(pa.Table.from_batches(self._samples, schema=SCHEMA))
        self.rows += self._pending
        self._samples, self._pending, self._rejects = [], 0, []


def totals(facts: list[dict[str, Any]]) -> dict[str, Any]:
    """The manifest's metrics: counts over all sources' facts."""
    rejects: Counter[str] = Counter()
    for source in facts:
        rejects.update(source["rejects"])
    by_role = {
        role: sum(s["kept"] for s in facts if s["role"] == role) for role in ("pool", "robot")
    }
    sums = {name: sum(s[name] for s in facts) for name in ("seen", "text_only", "multi_image")}
    return {"sources": len(facts), **by_role, **sums, "rejects": dict(rejects.most_common())}


FINISHED = "finished.json"  # facts of the sources that are complete, while others are still read
