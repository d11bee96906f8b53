"""Find samples by what their conversation says: a bounded scan, never the whole of a large pool at once."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emt_core.index import Index

MAX_MATCHES = 20_000
MAX_SECONDS = 3.0
BATCH_ROWS = 16_384


@dataclass(frozen=True)
class Matches:
    rows: np.ndarray
    """int64: index rows whose conversation holds the text, in index order."""

    scanned: int
    """Rows looked at."""

    total: int
    """Rows of the index."""

    @property
    def complete(self) -> bool:
        return self.scanned >= self.total


def find_text(index: Index, text: str, *, max_matches: int = MAX_MATCHES, max_seconds: float = MAX_SECONDS) -> Matches:
    """Rows in whose turns the text occurs, whatever its case; stops after so many matches or seconds."""
    wanted = text.strip()
    if not wanted:
        return Matches(np.empty(0, np.int64), 0, index.rows)
    started, at, count, found = time.monotonic(), 0, 0, []
    for batch in index.table.scan(["turns"], batch_rows=BATCH_ROWS):
        turns = batch.column(0)
        parents = np.asarray(pc.list_parent_indices(turns))  # pyright: ignore[reportAttributeAccessIssue]
        said = pc.struct_field(turns.flatten(), "text")  # pyright: ignore[reportAttributeAccessIssue]
        hits = pc.match_substring(said, wanted, ignore_case=True)  # pyright: ignore[reportAttributeAccessIssue]
        rows = np.unique(parents[np.asarray(hits.fill_null(False) if isinstance(hits, pa.Array) else hits)])
        found.append(at + rows.astype(np.int64))
        at, count = at + batch.num_rows, count + len(rows)
        if count >= max_matches or time.monotonic() - started > max_seconds:
            break
    return Matches(np.concatenate(found) if found else np.empty(0, np.int64), at, index.rows)
