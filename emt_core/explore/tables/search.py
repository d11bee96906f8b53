"""Find samples by text in their conversation, in bounded scans."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emt_core.data.index import Index

MAX_MATCHES = 20_000
MAX_SECONDS = 3.0
BATCH_ROWS = 16_384


@dataclass(frozen=True)
class Matches:
    rows: np.ndarray
    """int64: index rows whose conversation holds the text, in index order."""

    scanned: int
    """Rows looked at: the first ones of the searched sources."""

    total: int
    """Rows of the searched sources."""

    @property
    def complete(self) -> bool:
        return self.scanned >= self.total


def find_text(
    index: Index,
    text: str,
    *,
    sources: Collection[str] | None = None,
    after: Matches | None = None,
    max_matches: int = MAX_MATCHES,
    max_seconds: float = MAX_SECONDS,
) -> Matches:
    """Rows whose turns contain the text (ignoring case); stops after so many matches or seconds.

    sources: names of those to search, None for all. after: an earlier answer that stopped early;
    the search continues there, and the result holds the rows of both.
    """
    ranges = [source for source in index.sources if sources is None or source.name in sources]
    total = sum(source.rows for source in ranges)
    before = after or Matches(np.empty(0, np.int64), 0, total)
    wanted = text.strip()
    if not wanted:
        return before
    started = time.monotonic()
    scanned = before.scanned
    count = 0
    found = [before.rows]
    first = 0  # of the source among the searched rows
    for source in ranges:
        at = source.start + max(scanned - first, 0)
        first += source.rows
        for batch in index.table.scan(["turns"], start=at, stop=source.stop, batch_rows=BATCH_ROWS):
            rows = _rows_with(batch.column(0), wanted)
            found.append(at + rows)
            at += batch.num_rows
            scanned += batch.num_rows
            count += len(rows)
            if count >= max_matches or time.monotonic() - started > max_seconds:
                return Matches(np.concatenate(found), scanned, total)
    return Matches(np.concatenate(found), scanned, total)


def _rows_with(turns: pa.Array, wanted: str) -> np.ndarray:
    """int64: places of the lists of turns in which the text occurs, rising."""
    parents = np.asarray(pc.list_parent_indices(turns))  # pyright: ignore[reportAttributeAccessIssue]
    said = pc.struct_field(turns.flatten(), "text")  # pyright: ignore[reportAttributeAccessIssue]
    hits = pc.match_substring(said, wanted, ignore_case=True)  # pyright: ignore[reportAttributeAccessIssue]
    inside = np.asarray(hits.fill_null(False) if isinstance(hits, pa.Array) else hits)
    return np.unique(parents[inside]).astype(np.int64)
