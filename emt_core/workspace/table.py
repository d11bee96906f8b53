"""Tables on disk: Lance, appended in commits, never changed after the artifact's commit."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emt_core.errors import EmtError
from emt_core.workspace.files import flush_one

SCAN_ROWS = 16_384
READAHEAD_BATCHES = 4
ROWS_PER_FILE = 1_048_576

PATIENT_FOR_S = 1500.0
"""After this long, the time between commits grows with the time spent (30 s: to a fiftieth)."""


def storage_version(schema: pa.Schema) -> str:
    """Lance's file format for a table with these columns.

    Vectors are scanned in a third of the CPU time from format 2.0, which stores them as they lie
    in memory (200,000 x 1024 float16: 0.12 s against 0.36 s of format 2.2).
    """
    vectors = any(pa.types.is_fixed_size_list(field.type) for field in schema)
    return "2.0" if vectors else "stable"


class Table:
    """A Lance table: append while it is built, scan and take afterwards."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _dataset(self) -> Any:
        import lance

        try:
            return lance.dataset(str(self.path))
        except (OSError, ValueError) as error:
            raise EmtError(
                "a table of the workspace cannot be read",
                where=self.path,
                remedy="run its stage again",
            ) from error

    def exists(self) -> bool:
        """Whether a commit was made: a full disk may leave the folders of one that was not."""
        return any((self.path / "_versions").glob("*.manifest"))

    def append(self, table: pa.Table) -> None:
        """One commit: after a kill the table holds exactly the appends that returned."""
        import lance

        lance.write_dataset(table, str(self.path), **self._written_as(table.schema))
        self.__dict__.pop("_dataset", None)

    def _written_as(self, schema: pa.Schema) -> dict[str, Any]:
        """How Lance writes rows of this table, whoever commits them."""
        size: dict[str, Any] = {"max_rows_per_file": ROWS_PER_FILE}
        if self.exists():
            return size | {"mode": "append"}
        return size | {"mode": "create", "data_storage_version": storage_version(schema)}

    def write_fragments(self, table: pa.Table) -> list[dict[str, Any]]:
        """Files with these rows beside the table, not yet part of it (Lance's distributed write).

        Several processes may do so at once. Returns JSON for `commit_fragments`; the files are on
        disk when this returns.
        """
        from lance.fragment import write_fragments

        written = write_fragments(table, str(self.path), **self._written_as(table.schema))
        fragments = [fragment.to_json() for fragment in written]
        for fragment in fragments:
            for file in fragment["files"]:
                flush_one(self.path / "data" / file["path"])
        return fragments

    def commit_fragments(self, fragments: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
        """Append what `write_fragments` wrote, in the given order, in one commit."""
        import lance
        from lance.fragment import FragmentMetadata

        added = [FragmentMetadata.from_json(json.dumps(fragment)) for fragment in fragments]
        if self.exists():
            version = self._dataset.version
            operation = lance.LanceOperation.Append(added)
            lance.LanceDataset.commit(str(self.path), operation, read_version=version)
        else:
            operation = lance.LanceOperation.Overwrite(schema, added)
            lance.LanceDataset.commit(str(self.path), operation)
        self.__dict__.pop("_dataset", None)

    def finish(self) -> None:
        """Merge the small files of many appends into few large ones; rows keep their order.

        Every append writes a list of all files before it: 200 appends left 1.7 MB of lists alone.
        A kill changes no row; the next call removes what it left. Nobody else may have the table
        open.
        """
        if not self.exists():
            return
        self._dataset.optimize.compact_files(target_rows_per_fragment=ROWS_PER_FILE)
        self._dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)
        self.__dict__.pop("_dataset", None)

    @property
    def rows(self) -> int:
        return self._dataset.count_rows() if self.exists() else 0

    @property
    def schema(self) -> pa.Schema:
        return self._dataset.schema

    def scan(
        self,
        columns: Sequence[str],
        *,
        start: int = 0,
        stop: int | None = None,
        batch_rows: int = SCAN_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Rows [start, stop) in order, a batch at a time; memory stays bounded by a few batches."""
        stop = self.rows if stop is None else min(stop, self.rows)
        if stop <= start:
            return
        scanner = self._dataset.scanner(
            columns=list(columns),
            offset=start or None,
            limit=stop - start if (start or stop < self.rows) else None,
            batch_size=batch_rows,
            batch_readahead=READAHEAD_BATCHES,
            scan_in_order=True,
        )
        yield from scanner.to_batches()

    def take(
        self, rows: Sequence[int] | np.ndarray, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The given rows, in the given order (repeats allowed)."""
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.rows):
            raise IndexError(f"rows outside 0..{self.rows - 1}")
        if not wanted.size:
            empty = self.schema.empty_table()
            return empty if columns is None else empty.select(list(columns))
        unique, inverse = np.unique(wanted, return_inverse=True)
        names = list(columns) if columns is not None else None
        return self._dataset.take(unique.tolist(), columns=names).take(pa.array(inverse))

    def column(self, name: str, *, start: int = 0, stop: int | None = None) -> np.ndarray:
        """One narrow column of rows [start, stop) as an array; not for vectors or text."""
        parts = [
            batch.column(0).to_numpy(zero_copy_only=False)
            for batch in self.scan([name], start=start, stop=stop)
        ]
        return np.concatenate(parts) if parts else np.empty(0)


class CommitClock:
    """Tells when to append: after `rows` rows, or `seconds` of work since the last append.

    The seconds are what a kill may cost. They grow with the run, because an append lists all files
    of those before it: one every 30 s for eleven days would leave 40 GB of lists.
    """

    def __init__(self, rows: int, seconds: float) -> None:
        self.rows = rows
        self.seconds = seconds
        self._begun = self._since = time.monotonic()

    def due(self, waiting: int) -> bool:
        """waiting: rows that are not committed yet."""
        now = time.monotonic()
        patience = self.seconds * max(1.0, (now - self._begun) / PATIENT_FOR_S)
        return waiting >= self.rows or now - self._since >= patience

    def restart(self) -> None:
        """A commit has just been made."""
        self._since = time.monotonic()


BATCH_ROWS = 262_144


@dataclass(frozen=True)
class Coded:
    """A text column of few different values: int16 [rows] places in `names`, -1 where null."""

    codes: np.ndarray
    names: list[str]

    def code(self, name: str) -> int:
        """Place of a name; -2 (matches nothing) where it does not occur."""
        return self.names.index(name) if name in self.names else -2


def coded_column(
    table: Table, name: str, first: Sequence[str] = (), *, null: str | None = None
) -> Coded:
    """Read a text column by batches, without a Python string for every row.

    first: names that lead the list, whether they occur or not; the others follow by name, wherever
    in the table they stand. null: the name that a null counts as.
    """
    seen = {value: place for place, value in enumerate(first)}
    parts = []
    for batch in table.scan([name], batch_rows=BATCH_ROWS):
        column = batch.column(0) if null is None else pc.fill_null(batch.column(0), null)
        encoded = column.dictionary_encode()
        values = encoded.dictionary.to_pylist()
        code_of = np.array([*(seen.setdefault(value, len(seen)) for value in values), -1], np.int16)
        # a null points at the -1 behind the values
        parts.append(code_of[np.asarray(encoded.indices.fill_null(len(values)))])
    codes = np.concatenate(parts) if parts else np.empty(0, np.int16)
    names = [*first, *sorted(list(seen)[len(first) :])]
    by_name = np.array([*(names.index(value) for value in seen), -1], np.int16)
    return Coded(codes if names == list(seen) else by_name[codes], names)
