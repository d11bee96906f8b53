"""Parquet and arrow files that may be damaged: read whole, batch by batch, row by row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import parquet

from emt_core.data.damaged import DAMAGED
from emt_core.data.file_kind import unreadable
from emt_core.errors import EmtError

T = TypeVar("T")


def read_table(
    path: Path, columns: Sequence[str] | None = None, *, leave_out: Collection[str] = ()
) -> pa.Table:
    """Columns of a parquet file; all of them by default.

    Raises EmtError where it is missing, cannot be read, lacks one, or has one twice.
    """
    if not path.is_file():
        raise EmtError(f"{path.name} is missing", where=path)
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [n for n in names if n not in leave_out] if columns is None else list(columns)
            _check_names(names, wanted, path)
            return file.read(columns=wanted, use_threads=False)
    except DAMAGED as error:
        raise EmtError(f"{path.name} cannot be read as parquet: {error}", where=path) from error


def _check_names(names: Sequence[str], wanted: Sequence[str], path: Path) -> None:
    lacking = [name for name in wanted if name not in names]
    if lacking:
        raise EmtError(f"{path.name} lacks the columns {lacking}", where=path)
    twice = [name for name in wanted if names.count(name) > 1]
    if twice:
        raise EmtError(f"{path.name} has two columns {twice[0]!r}", where=path)


def rows_of(table: pa.Table, path: Path) -> list[dict[str, Any]]:
    """The rows as Python values. Raises EmtError for a value that Python cannot hold."""
    try:
        return table.to_pylist()
    except DAMAGED as error:
        raise EmtError(
            f"{path.name} holds a value that cannot be read: {error}", where=path
        ) from error


def open_parquet(path: Path) -> parquet.ParquetFile:
    """Raises EmtError. Mapped: pyarrow would otherwise hold the columns of a whole row group."""
    try:
        file = parquet.ParquetFile(path, memory_map=True)
        file.schema_arrow.names  # noqa: B018 - may be no UTF-8
        return file
    except DAMAGED as error:
        remedy = "it may be cut off: fetch or write it again"
        raise unreadable("a file cannot be read as parquet", path, remedy) from error


def parquet_batches(
    file: parquet.ParquetFile, path: Path, size: int, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows in order, the file closed behind them. Raises EmtError where it breaks off."""
    at = 0
    with file:
        promised = file.metadata.num_rows
        try:
            for batch in file.iter_batches(size, columns=columns, use_threads=False):
                yield batch
                at += batch.num_rows
            problem = f"it promises {promised:,} rows" if at != promised else ""
        except DAMAGED as error:
            problem = str(error)
    if problem:
        raise EmtError(
            f"a parquet file breaks off after row {at}: {problem}",
            where=path,
            remedy="it is damaged: fetch or write it again",
        )


def each_row(
    batch: pa.RecordBatch, values: Callable[[pa.RecordBatch], list[T]], *, unseen: bool
) -> list[T | str]:
    """`values` of the batch, a value a row; a text says what is wrong with a row without one.

    unseen: nobody has looked at the offsets in the batch yet (arrow files): they may lead outside.
    """
    try:
        if unseen:
            batch.validate(full=True)
        return list(values(batch))
    except DAMAGED as error:
        if batch.num_rows == 1:
            return [f"a value cannot be read: {error}"]
    rows = (batch.slice(row, 1) for row in range(batch.num_rows))
    return [found for row in rows for found in each_row(row, values, unseen=unseen)]
