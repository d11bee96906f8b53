"""Rows of a region as a CSV or Parquet file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from emt_core.data.index import Index
from emt_core.errors import EmtError

BLOCK_ROWS = 65_536
MOST_ROWS = 2_000_000
"""A browser holds a download in memory; this is some 100 MB of CSV."""


def rows_as_file(
    index: Index,
    rows: np.ndarray,
    *,
    numbers: Mapping[str, np.ndarray],
    names: Mapping[str, tuple[np.ndarray, Sequence[str]]],
    format: Literal["csv", "parquet"],
) -> bytes:
    """A table of these index rows with `id`, `row` and the given columns, in rising row order.

    numbers: column -> values [index rows]. names: column -> (integer codes [index rows], their
    names; negative: empty). In CSV, text that a spreadsheet would run as a formula (starting with
    =, +, -, @) gets an apostrophe.

    Raises EmtError for more than MOST_ROWS rows.
    """
    if len(rows) > MOST_ROWS:
        most = f"at most {MOST_ROWS:,}: draw a smaller region"
        raise EmtError(f"{len(rows):,} rows are too many to download", remedy=most)
    rows = np.sort(np.asarray(rows, np.int64))
    out = io.BytesIO()
    types = {name: pa.from_numpy_dtype(values.dtype) for name, values in numbers.items()}
    writer = _writer(out, format, {**dict.fromkeys(names, pa.string()), **types})
    with writer:
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            columns: dict[str, pa.Array] = {
                "id": pa.array(_ids(index, block)),
                "row": pa.array(block),
            }
            for name, (codes, known) in names.items():
                texts = pa.array([*known, None], pa.string())
                places = np.where(codes[block] < 0, len(known), codes[block])
                columns[name] = texts.take(pa.array(places.astype(np.int64)))
            columns |= {name: pa.array(values[block]) for name, values in numbers.items()}
            table = pa.table(columns)
            writer.write_table(_harmless(table) if format == "csv" else table)
    return out.getvalue()


def _writer(out: io.BytesIO, format: str, columns: Mapping[str, pa.DataType]) -> Any:
    schema = pa.schema([("id", pa.string()), ("row", pa.int64()), *columns.items()])
    if format == "csv":
        from pyarrow import csv

        return csv.CSVWriter(out, schema)
    from pyarrow import parquet

    return parquet.ParquetWriter(out, schema)


def _ids(index: Index, block: np.ndarray) -> list[str]:
    """Ids (`source:row`) of rising rows; reads the narrow column of row numbers alone."""
    found: list[str] = []
    for source in index.sources:
        mine = block[np.searchsorted(block, source.start) : np.searchsorted(block, source.stop)]
        if len(mine):
            own = index.table.take(mine, ["row"]).column(0).to_numpy()
            found += [f"{source.name}:{row}" for row in own.tolist()]
    return found


def _harmless(table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            texts = [_quoted(text) for text in table.column(place).to_pylist()]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table


def _quoted(text: str | None) -> str | None:
    return f"'{text}" if text and text[0] in "=+-@\t\r" else text
