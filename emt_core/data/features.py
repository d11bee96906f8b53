"""The feature store that `embed` leaves: a row for each row of the sources index, in its order.

features.lance   vector float16 [dim], zeros where there is none
                 status string: "" where the row has a vector, else why not (a reject reason)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from emt_core.errors import EmtError
from emt_core.workspace.table import SCAN_ROWS, Table


@dataclass
class Features:
    """Read side of a feature store: float16 vectors [rows, dim] and their status."""

    table: Table

    @classmethod
    def at(cls, path: Path) -> Features:
        return cls(Table(path))

    @property
    def rows(self) -> int:
        return self.table.rows

    @cached_property
    def dim(self) -> int:
        return self.table.schema.field("vector").type.list_size

    def batches(
        self, *, start: int = 0, stop: int | None = None, batch_rows: int = SCAN_ROWS
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, float16 [n, dim]) for rows [start, stop) in order.

        The arrays are views on the read buffer: do not write to them.
        """
        at = start
        for batch in self.table.scan(["vector"], start=start, stop=stop, batch_rows=batch_rows):
            yield at, as_matrix(batch.column(0))
            at += batch.num_rows

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """float16 [len(rows), dim], in the given order."""
        column = self.table.take(rows, ["vector"]).column(0).combine_chunks()
        return as_matrix(column) if len(column) else np.empty((0, self.dim), np.float16)

    def ok(self, *, start: int = 0, stop: int | None = None) -> np.ndarray:
        """bool [rows]: which rows have a vector."""
        parts = []
        for batch in self.table.scan(["status"], start=start, stop=stop):
            parts.append(np.asarray(batch.column(0).to_numpy(zero_copy_only=False) == ""))
        return np.concatenate(parts) if parts else np.empty(0, bool)


def take_finite(features: Features, rows: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """dtype [n, dim], in the order of `rows`.

    Raises EmtError for a vector that is not finite: `embed` gives such a row a status, so a good
    row has none.
    """
    vectors = features.take(rows).astype(dtype)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise EmtError(
            "a feature that counts as good is not finite",
            where=f"{features.table.path}, row {int(np.asarray(rows)[~finite][0])}",
            remedy="remove this embed artifact and run `emt embed` again; "
            "if it stays, try precision: float32",
        )
    return vectors


def feature_schema(dim: int) -> pa.Schema:
    return pa.schema([("vector", pa.list_(pa.float16(), dim)), ("status", pa.string())])


def feature_table(vectors: np.ndarray, status: Sequence[str]) -> pa.Table:
    """float16 [n, dim] and n statuses -> one append of a feature store."""
    if vectors.dtype != np.float16 or vectors.ndim != 2 or len(vectors) != len(status):
        raise ValueError(
            f"want float16 [n, dim] and n statuses, "
            f"got {vectors.dtype} {vectors.shape}, {len(status)}"
        )
    values = pa.array(np.ascontiguousarray(vectors).reshape(-1), type=pa.float16())
    dim = vectors.shape[1]
    column = pa.FixedSizeListArray.from_arrays(values, dim)
    return pa.table([column, pa.array(status, pa.string())], schema=feature_schema(dim))


def as_matrix(column: pa.FixedSizeListArray) -> np.ndarray:
    """A fixed-size-list column as [n, dim] without a copy."""
    values = column.flatten().to_numpy(zero_copy_only=True)
    return values.reshape(len(column), column.type.list_size)
