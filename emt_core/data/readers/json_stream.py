"""Rows of a JSON array or of JSON lines, one at a time: memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from emt_core.data.file_kind import unreadable
from emt_core.data.json_rows import MAX_ROW_BYTES, JsonText, parse_json
from emt_core.data.readers.conversation import RowProblem
from emt_core.data.readers.fields import CONVERSATIONS, holds_rows
from emt_core.errors import EmtError

LINES_LOOKED_AT = 20
SMALL_BYTES = 4 * 2**20


class BrokenLine:
    """A line of a JSON-lines file that is no JSON; the lines after it are fine."""

    def __init__(self, detail: str) -> None:
        self.detail = detail


def object_of(row: Any) -> Mapping[str, Any]:
    """The object that a row of `stream_rows` is. Raises RowProblem (`unreadable_row`)."""
    if isinstance(row, BrokenLine):
        raise RowProblem("unreadable_row", row.detail)
    if not isinstance(row, Mapping):
        raise RowProblem("unreadable_row", f"a row is an object, not {type(row).__name__}")
    return row


def id_in(row: Any, name: str) -> Any:
    """A field of a row that may be no object; None without it."""
    return row.get(name) if isinstance(row, Mapping) else None


def small_object(path: Path) -> dict[str, Any] | None:
    """The object that a small file is as a whole, None for any other file."""
    try:
        if path.stat().st_size > SMALL_BYTES:
            return None
        text = path.read_text(encoding="utf-8-sig").lstrip()
        return parse_json(text) if text.startswith("{") else None
    except (OSError, ValueError):
        return None


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
            yield from _objects(file, path)
        elif not first:
            raise EmtError("the data file is empty", where=path)
        else:
            raise unreadable(
                "the file is neither a JSON array nor JSON lines", path, "it starts with [ or {"
            )


def _array(file: BinaryIO, path: Path) -> Iterator[tuple[int, Any]]:
    """The file stands before the array's `[`."""
    text = JsonText(file)
    count = 0
    with _named_faults("the JSON array", path, text) as seen:
        text.expect("[")
        while text.peek() != "]" or count:
            yield text.value()
            count += 1
            seen[0] = count
            if text.peek() != ",":
                break
            text.expect(",")
        text.expect("]")
        text.expect("")


@contextmanager
def _named_faults(what: str, path: Path, text: JsonText) -> Iterator[list[int]]:
    """Raises EmtError for a fault of the text; the list holds the number of rows before it."""
    seen = [0]
    try:
        yield seen
    except ValueError as error:  # UnicodeDecodeError is one
        count = seen[0]
        raise EmtError(
            f"{what} {'ends in the middle' if text.ended else 'is malformed'} in row "
            f"{count} ({' '.join(str(error).split())[:160]})",
            where=f"{path}, row {count} at byte {text.place:,}",
            remedy=f"mend the file, or read what comes before with `limit: {count}`"
            if count
            else "mend the file",
        ) from error


def _objects(file: BinaryIO, path: Path) -> Iterator[tuple[int, Any]]:
    """JSON lines, or objects over several lines one after another.

    Raises EmtError for one object that holds the rows.
    """
    start = file.tell()
    text = JsonText(file)
    try:
        _, first = text.value()
        after = text.place
        alone = not text.peek()
        file.seek(start)
        spread = after - start > len(file.readline(MAX_ROW_BYTES))
    except ValueError:  # it is broken, or longer than may be held
        first = None
        alone = False
        spread = not _some_line_is_row(file, start)
        if spread:
            _refuse_rows_inside(path, _keys_to_array(file, start), whole=False)
    if alone and isinstance(first, Mapping):
        rows = [n for n, v in first.items() if holds_rows(v) and n not in CONVERSATIONS]
        known = any(name in first for name in CONVERSATIONS)
        _refuse_rows_inside(path, [*first, *rows] if rows and not known else [], whole=True)
    file.seek(start)
    yield from (_spread if spread else _lines)(file, path)


def _some_line_is_row(file: BinaryIO, start: int) -> bool:
    """Whether one of the first lines is an object by itself: then the file is JSON lines."""
    file.seek(start)
    for _ in range(LINES_LOOKED_AT):
        with suppress(ValueError):
            if isinstance(parse_json(file.readline(MAX_ROW_BYTES)), Mapping):
                return True
    return False


def _keys_to_array(file: BinaryIO, start: int) -> list[str]:
    """Keys of the object that begins at `start`, up to the first that holds an array of objects and
    with this one once more at the end; [] where there is none."""
    file.seek(start)
    text = JsonText(file)
    keys: list[str] = []
    try:
        text.expect("{")
        while True:
            keys.append(str(text.value()[1]))
            text.expect(":")
            if text.peek() == "[":
                text.expect("[")
                return [*keys, keys[-1]] if text.peek() == "{" else []
            text.value()
            text.expect(",")
    except ValueError:
        return []


def _refuse_rows_inside(path: Path, keys: list[str], *, whole: bool) -> None:
    """keys: of the object, the one that holds the rows again at the end; [] is no fault."""
    if not keys:
        return
    *there, rows = keys
    raise EmtError(
        f"the file is one JSON object, its rows lie under {rows!r}",
        where=f"{path}, with {', '.join(there[:10])}{'' if whole else ', ...'}",
        remedy=f"write that array to a file of its own: jq .{rows} {path.name} > rows.json",
    )


def _spread(file: BinaryIO, path: Path) -> Iterator[tuple[int, Any]]:
    """Objects over several lines, one after another, as jq writes them."""
    text = JsonText(file)
    with _named_faults("the sequence of JSON objects", path, text) as seen:
        while text.peek():
            yield text.value()
            seen[0] += 1


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
            row = parse_json(line.decode())
        except UnicodeDecodeError as error:
            row = BrokenLine(
                f"line {number} is not UTF-8: {error.reason} at byte {error.start} of the line"
            )
        except ValueError as error:
            row = BrokenLine(f"line {number} is not JSON: {error}")
        yield at, row
