"""Rows of a JSON array or of JSON lines, one at a time: memory does not grow with the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from emt_core.data.json_rows import MAX_ROW_BYTES, JsonText
from emt_core.errors import EmtError


class BrokenLine:
    """A line of a JSON-lines file that is no JSON; the lines after it are fine."""

    def __init__(self, detail: str) -> None:
        self.detail = detail


def stream_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(byte at which it begins, row) of the file's rows in order, any JSON value each.

    A bad line of JSON lines is a BrokenLine. Raises EmtError where the file is missing, empty, not
    UTF-8, or its array breaks off or is malformed: what comes after that place in an array cannot
    be found again, so the row and the byte are named.
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


def _array(file: BinaryIO, path: Path) -> Iterator[tuple[int, Any]]:
    """The file stands before the array's `[`."""
    text = JsonText(file)
    count = 0
    try:
        text.expect("[")
        while text.peek() != "]" or count:
            yield text.value()
            count += 1
            if text.peek() != ",":
                break
            text.expect(",")
        text.expect("]")
        text.expect("")
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise EmtError(
            f"the JSON array {'ends in the middle' if text.ended else 'is malformed'} in row "
            f"{count} ({' '.join(str(error).split())[:160]})",
            where=f"{path}, row {count} at byte {text.place:,}",
            remedy=f"mend the file, or read what comes before with `limit: {count}`"
            if count
            else "mend the file",
        ) from error


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, Any]]:
    number = 0
    after = file.tell()
    while line := file.readline(MAX_ROW_BYTES):
        number += 1
        at = after
        after += len(line)
        if len(line) == MAX_ROW_BYTES:
            raise EmtError(
                f"line {number} is longer than {MAX_ROW_BYTES >> 20} MB",
                where=path,
                remedy="is this one JSON object?",
            )
        if line.isspace():
            continue
        try:
            row = json.loads(line.decode())
        except UnicodeDecodeError as error:
            row = BrokenLine(
                f"line {number} is not UTF-8: {error.reason} at byte {error.start} of the line"
            )
        except (ValueError, RecursionError) as error:
            row = BrokenLine(f"line {number} is not JSON: {error}")
        yield at, row
