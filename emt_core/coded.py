"""Text columns of few different values as codes and names: what selection, filters and figures count by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from emt_core.store import Table

BATCH_ROWS = 262_144


@dataclass(frozen=True)
class Coded:
    """A text column of few different values: int16 [rows] places in `names`, -1 where null."""

    codes: np.ndarray
    names: list[str]

    def code(self, name: str) -> int:
        """Place of a name; -2 (matches nothing) where it does not occur."""
        return self.names.index(name) if name in self.names else -2


def coded_column(table: Table, name: str, first: Sequence[str] = (), *, null: str | None = None) -> Coded:
    """Read a text column by batches, without a Python string for every row.

    first: names that lead the list, whether they occur or not; the others follow by name, wherever in the table they
    stand. null: the name that a null counts as.
    """
    seen = {value: place for place, value in enumerate(first)}
    parts = []
    for batch in table.scan([name], batch_rows=BATCH_ROWS):
        column = batch.column(0) if null is None else pc.fill_null(batch.column(0), null)
        encoded = column.dictionary_encode()
        here = [seen.setdefault(value, len(seen)) for value in encoded.dictionary.to_pylist()]
        lookup = np.array([*here, -1], np.int16)
        indices = encoded.indices.fill_null(len(here)) if encoded.indices.null_count else encoded.indices
        parts.append(lookup[np.asarray(indices)])
    codes = np.concatenate(parts) if parts else np.empty(0, np.int16)
    names = [*first, *sorted(list(seen)[len(first) :])]
    place = np.array([*(names.index(value) for value in seen), -1], np.int16)
    return Coded(codes if names == list(seen) else place[codes], names)
