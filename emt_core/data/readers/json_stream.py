"""Rows of a JSON array or of JSON lines, one at a time: memory does not grow with the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from emt_core.errors import EmtError

MAX_LINE_BYTES = 64 * 2**20
BUFFER_BYTES = 2**16


class BrokenLine:
    """A line of a JSON-lines file that is no JSON; the lines after it are fine."""

    def __init__(self, detail: str) -> None:
        self.detail = detail


def stream_rows(path: Path) -> Iterator[Any]:
    """The file's rows in order, any JSON value each (a BrokenLine for a bad line of JSON lines).

    Raises EmtError where the file is missing, empty, not UTF-8, or its array breaks off or is
    malformed: what comes after that place in an array cannot be found again, so the row and the
    byte are named.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise EmtError(
            f"the data file cannot be opened ({error.strerror})",
            where=path,
            remedy="check the source's path",
        ) from error
    with file:
        if file.read(3) != b"\xef\xbb\xbf":  # a byte order mark is legal to skip
            file.seek(0)
        start = file.tell()
        first = file.read(1)
        while first.isspace():
            first = file.read(1)
        file.seek(start)
        if first == b"[":
            yield from _array(file, path)
        elif first == b"{":
            yield from _lines(file, path)
        elif not first:
            raise EmtError("the data file is empty", where=path)
        else:
            raise EmtError(
                "the file is neither a JSON array nor JSON lines",
                where=path,
                remedy="it starts with [ or {",
            )


def _array(file: BinaryIO, path: Path) -> Iterator[Any]:
    import ijson

    rows = ijson.items(file, "item", use_float=True, buf_size=BUFFER_BYTES)
    count = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except (ijson.JSONError, UnicodeDecodeError, ValueError, OverflowError) as error:
            problem = "ends in the middle" if "premature" in str(error).lower() else "is malformed"
            raise EmtError(
                f"the JSON array {problem} in row {count} ({' '.join(str(error).split())[:160]})",
                where=f"{path}, before byte {file.tell():,}",
                remedy=f"mend the file, or read what comes before with `limit: {count}`"
                if count
                else "mend the file",
            ) from error
        yield row
        count += 1


def _lines(file: BinaryIO, path: Path) -> Iterator[Any]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES:
            raise EmtError(
                f"line {number} is longer than {MAX_LINE_BYTES >> 20} MB",
                where=path,
                remedy="is this one JSON object?",
            )
        if line.isspace():
            continue
        try:
            yield json.loads(line.decode())
        except UnicodeDecodeError as error:
            yield BrokenLine(
                f"line {number} is not UTF-8: {error.reason} at byte {error.start} of the line"
            )
        except (ValueError, RecursionError) as error:
            yield BrokenLine(f"line {number} is not JSON: {error}")
