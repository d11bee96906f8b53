"""Small parquet tables, read whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from emt_core.data.damaged import DAMAGED
from emt_core.errors import EmtError


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
