"""JSON values one after another out of a file: each with the byte that it begins at.

So that rows are streamed without holding the file, and found again for the images in them.
"""

from __future__ import annotations

import codecs
import json
import os
from typing import Any, BinaryIO

MAX_ROW_BYTES = 64 * 2**20
BLOCK_BYTES = 2**18
FIRST_BYTES = 2**16
"""Of a single row that is looked for: grown where it is longer."""

BLANKS = " \t\n\r"


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError where it is none or is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


class JsonText:
    """The text of a file from where it stands; no more is held than the value that is read."""

    def __init__(self, file: BinaryIO | _From, block: int = BLOCK_BYTES) -> None:
        self.file = file
        self.block = block
        self.place = file.tell()
        """Byte of the file that comes next."""
        self.ended = False
        """The file ended where something was still to come."""
        self._text = ""
        self._at = 0
        # a byte that is no UTF-8 stays in the text until its row is reached
        self._utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is no blank, which is not passed; "" at the file's end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in BLANKS:
                    return self._text[self._at]
                self._at += 1
                self.place += 1
            if not self._more():
                return ""

    def expect(self, wanted: str) -> None:
        """Pass one character ("": the file's end). Raises ValueError where another one comes."""
        found = self.peek()
        if found != wanted:
            self.ended = not found
            raise ValueError(f"{wanted or 'the end'!r} should come here")
        self._at += len(wanted)
        self.place += len(wanted)

    def value(self) -> tuple[int, Any]:
        """(byte at which it begins, the next value).

        Raises ValueError where none begins, or the file ends inside it.
        """
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                if end < len(self._text) or not self._more():  # 12 may go on as 123
                    break
            except RecursionError as error:
                raise ValueError("it is nested too deep") from error
            except json.JSONDecodeError as error:
                held = len(self._text) - self._at
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._text.rstrip())
                if held > MAX_ROW_BYTES or not self._more():
                    self.ended = cut and held <= MAX_ROW_BYTES
                    raise
        at = self.place
        passed = self._text[self._at : end]
        try:
            self.place += len(passed) if self._text.isascii() else len(passed.encode())
        except UnicodeEncodeError as error:
            raise ValueError("it is not UTF-8") from error
        self._at = end
        return at, value

    def _more(self) -> bool:
        """Read on, as much again as is held; what lies before the present place is let go."""
        self._text = self._text[self._at :]
        self._at = 0
        block = self.file.read(max(len(self._text), self.block))
        self._text += self._utf8.decode(block, final=not block)
        return bool(block)


class _From:
    """An open file from one byte on, read by position: threads may share the descriptor."""

    def __init__(self, file: int, at: int) -> None:
        self.file = file
        self.at = at

    def tell(self) -> int:
        return self.at

    def read(self, size: int) -> bytes:
        block = os.pread(self.file, size, self.at)
        self.at += len(block)
        return block


def row_at(file: int, at: int) -> Any:
    """The JSON value that begins at byte `at` of an open file. Raises ValueError for none."""
    return JsonText(_From(file, at), FIRST_BYTES).value()[1]
