"""Open files that images are read through: bounded, per thread, noticed when they change on disk.

Per thread, because neither a video decoder nor a file position may be shared; dropped after a fork
for the same reason. The key holds size and mtime, so a file that was replaced while an app runs is
opened anew.
"""

from __future__ import annotations

import bisect
import errno
import io
import os
import stat
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from emt_core.data.json_rows import row_at

GONE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
}


class ImageProblem(Exception):
    """An image that cannot be had: a key of REJECT_REASONS and a detail that helps to mend it.

    The detail names paths as the data do, relative to the source: it is kept in artifacts.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Handle(Protocol):
    def close(self) -> None: ...


H = TypeVar("H", bound=Handle)
CELLS = 64
"""Rows of a parquet column that are held at once where its row group is larger than HELD_BYTES."""

HELD_BYTES = 128 * 2**20
"""Column of a row group, decoded, that is held whole: its rows may then be read in any order."""

KEPT = {
    "TarHandle": 32,
    "ParquetHandle": 2,
    "ArrowHandle": 16,
    "JsonHandle": 8,
    "Video": 8,
    "TFRecordFile": 32,
    "HDF5File": 2,
}


class _Kept(threading.local):
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.handles: dict[str, OrderedDict[Any, Any]] = {}


_kept = _Kept()


def handle(kind: Callable[[Path], H], path: Path) -> H:
    """The open handle of `path`, opened where need be. Raises ImageProblem (`missing_image`)."""
    facts = file_facts(path)
    if _kept.pid != os.getpid():
        _kept.__init__()
    name = kind.__name__  # type: ignore[attr-defined]
    kept = _kept.handles.setdefault(name, OrderedDict())
    key = (str(path), facts.st_size, facts.st_mtime_ns)
    if key in kept:
        kept.move_to_end(key)
        return kept[key]
    for old in [other for other in kept if other[0] == key[0]]:
        # of the file as it was: HDF5 would go on with what it read then
        kept.pop(old).close()
    opened = kind(path)
    kept[key] = opened
    while len(kept) > KEPT[name]:
        kept.popitem(last=False)[1].close()
    return opened


def file_facts(path: Path) -> os.stat_result:
    """stat of a regular file. Raises ImageProblem for a pipe or device: opening it could block."""
    try:
        facts = path.stat()
    except OSError as error:
        raise missing(error) from error
    if not stat.S_ISREG(facts.st_mode):
        raise ImageProblem("missing_image", "not a regular file")
    return facts


def missing(error: OSError) -> ImageProblem:
    """The problem of a missing or forbidden file; other failures (a dying disk) are raised."""
    if error.errno not in GONE:
        raise error
    return ImageProblem("missing_image", error.strerror or "cannot be opened")


def open_unbuffered(path: Path) -> io.FileIO:
    """For positional reads. Raises ImageProblem where it is missing or forbidden."""
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise missing(error) from error


class TarHandle:
    """Reads a member at its offset, without the archive's table of contents."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open_unbuffered(path)

    def member(self, offset: int, name: str) -> io.BufferedReader:
        """The member whose data begin at `offset`: its last header block lies just before."""
        header = offset - tarfile.BLOCKSIZE
        block = os.pread(self.file.fileno(), tarfile.BLOCKSIZE, header) if header >= 0 else b""
        try:
            info = tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
        except tarfile.HeaderError as error:
            raise ImageProblem("missing_image", f"no member {name!r} at byte {offset}") from error
        return io.BufferedReader(Span(self.file, offset, info.size))

    def close(self) -> None:
        self.file.close()


class Span(io.RawIOBase):
    """A stretch of a file as a file, read by position: the descriptor has no state to share."""

    def __init__(self, file: io.FileIO, start: int, size: int) -> None:
        self.file = file
        self.start = start
        self.size = size
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(self.size - self.at, 0))
        block = os.pread(self.file.fileno(), wanted, self.start + self.at)
        buffer[: len(block)] = block
        self.at += len(block)
        return len(block)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def tell(self) -> int:
        return self.at


class ParquetHandle:
    """Cells of a parquet file: keeps one column of a row group, or CELLS rows of a large one.

    A row of a large group that lies before these is found by going through the group again.
    """

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        from emt_core.data.damaged import DAMAGED

        try:
            self.file = parquet.ParquetFile(path, memory_map=True)
        except DAMAGED as error:
            raise ImageProblem("undecodable_image", f"no parquet file: {error}") from error
        meta = self.file.metadata
        self.starts = [0]
        for group in range(meta.num_row_groups):
            self.starts.append(self.starts[-1] + meta.row_group(group).num_rows)
        self.held = ("", range(0))
        """The column and the rows that `cells` has."""
        self.cells: Any = None
        self._coming: Iterator[Any] = iter(())

    def cell(self, column: str, row: int) -> Any:
        if not 0 <= row < self.starts[-1]:
            raise ImageProblem(
                "missing_image", f"row {row} is beyond the file's {self.starts[-1]} rows"
            )
        held, rows = self.held
        if held != column or row < rows.start or self._group(row) != self._group(rows.start):
            rows = self._begin(column, row)
        while row not in rows:
            self.cells = None  # let the old ones go before the new ones are read
            self.cells = self._next(column)
            rows = range(rows.stop, rows.stop + len(self.cells))
            self.held = (column, rows)
        return _value(self.cells[row - rows.start])

    def _group(self, row: int) -> int:
        return bisect.bisect_right(self.starts, row) - 1

    def _next(self, column: str) -> Any:
        from emt_core.data.damaged import DAMAGED

        try:
            return next(self._coming).column(column)
        except (*DAMAGED, StopIteration) as error:
            self.held = ("", range(0))
            raise ImageProblem("undecodable_image", f"the file breaks off: {error}") from error

    def _begin(self, column: str, row: int) -> range:
        """Start the row group of `row` anew; no row of it is held yet."""
        if column not in self.file.schema_arrow.names:
            raise ImageProblem("missing_image", f"there is no column {column!r}")
        group = self._group(row)
        meta = self.file.metadata.row_group(group)
        leaves = (meta.column(place) for place in range(meta.num_columns))
        size = sum(
            leaf.total_uncompressed_size
            for leaf in leaves
            if (leaf.path_in_schema + ".").startswith(column + ".")
        )
        at_once = meta.num_rows if size <= HELD_BYTES else CELLS
        self._coming = self.file.iter_batches(
            at_once, row_groups=[group], columns=[column], use_threads=False
        )
        return range(self.starts[group], self.starts[group])

    def close(self) -> None:
        self.file.close()


def _value(cell: Any) -> Any:
    """Of a scalar, or of the one row of a column that nobody has looked at yet. Raises ImageProblem
    (`undecodable_image`)."""
    import pyarrow as pa

    from emt_core.data.damaged import DAMAGED

    try:
        if isinstance(cell, pa.ChunkedArray):
            cell.validate(full=True)  # its offsets may lead outside of the file
            cell = cell[0]
        return cell.as_py()
    except DAMAGED as error:
        raise ImageProblem("undecodable_image", f"a value cannot be read: {error}") from error


class ArrowHandle:
    """Cells of an arrow shard (IPC stream or file), memory-mapped."""

    def __init__(self, path: Path) -> None:
        self.table: Any = open_arrow(path)

    def cell(self, column: str, row: int) -> Any:
        if not 0 <= row < self.table.num_rows:
            raise ImageProblem(
                "missing_image", f"row {row} is beyond the shard's {self.table.num_rows} rows"
            )
        if column not in self.table.column_names:
            raise ImageProblem("missing_image", f"there is no column {column!r}")
        return _value(self.table.column(column).slice(row, 1))

    def close(self) -> None:
        self.table = None


class JsonHandle:
    """Fields of the rows of a JSON file, found by the byte that a row begins at."""

    def __init__(self, path: Path) -> None:
        self.file = open_unbuffered(path)

    def cell(self, field: str, at: int) -> Any:
        try:
            return row_at(self.file.fileno(), at)[field]
        except (ValueError, KeyError, TypeError) as error:
            raise ImageProblem("missing_image", f"no row with {field!r} at byte {at}") from error

    def close(self) -> None:
        self.file.close()


def open_arrow(path: Path) -> Any:
    """A memory-mapped pa.Table, read as it is used. Raises ImageProblem (`undecodable_image`)."""
    import pyarrow as pa

    from emt_core.data.damaged import DAMAGED

    try:
        mapped = pa.memory_map(str(path))
        is_file = mapped.read(6) == b"ARROW1"
        mapped.seek(0)
        table = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(mapped).read_all()
        table.column_names  # noqa: B018 - may be no UTF-8
        return table
    except DAMAGED as error:
        raise ImageProblem("undecodable_image", f"no arrow shard: {error}") from error
