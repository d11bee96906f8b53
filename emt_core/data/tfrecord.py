"""TFRecord files and the tf.train.Example in each record, read in place: a value is found by byte.

    record   length uint64 | its checksum uint32 | the Example | its checksum uint32
    Example  1: Features { 1: entry { 1: name, 2: Feature { 1 bytes, 2 float or 3 int64 list } } }

Protocol buffers: a field is a key (number << 3 | kind), then a number or a length and so many
bytes. Only keys and lengths are read on the way to a value, so that a record of many images costs a
few reads. google.protobuf would hold a whole record and not tell where in the file an image lies.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emt_core.data.crc32c import crc32c, masked
from emt_core.data.images.handles import ImageProblem, Span, open_unbuffered

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
BLOCK_BYTES = 4 * 2**20
MAX_NAME_BYTES = 1024
MAX_TEXT_BYTES = 64 * 2**10
VARINT = 0
FIXED64 = 1
BYTES = 2
FIXED32 = 5
"""Kinds of fields."""

BYTES_LIST = 1
FLOAT_LIST = 2
INT64_LIST = 3
"""Kinds of a Feature."""


class DamagedRecord(Exception):
    """What is wrong, in words that name the byte."""


@dataclass(frozen=True)
class Part:
    """Bytes [start, stop) of the file."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Field:
    """One field of a message. at: its key's byte; value: its bytes, or the number of a varint."""

    at: int
    number: int
    kind: int
    value: Part
    varint: int = 0


Features = Mapping[str, tuple[int, Part]]
"""Name -> (BYTES_LIST, FLOAT_LIST or INT64_LIST, the list message)."""


class TFRecordFile:
    """An open shard. Positional reads: threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open_unbuffered(path)
        self.size = os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        self.file.close()

    def records(self) -> tuple[list[Part], str]:
        """The records in order, and what stops them before the file's end ("": nothing).

        Reads their headers only.
        """
        found: list[Part] = []
        at = 0
        while at < self.size:
            head = self._read(at, HEADER.size)
            if len(head) < HEADER.size:
                return found, f"it is cut off at byte {self.size:,}, in the header of a record"
            length, checksum = HEADER.unpack(head)
            if masked(crc32c([head[:8]])) != checksum:
                return found, f"at byte {at:,} there is no header of a record"
            start = at + HEADER.size
            at = start + length + FOOTER.size
            if at > self.size:
                return found, f"it is cut off at byte {self.size:,}, a record ends at {at:,}"
            found.append(Part(start, start + length))
        return found, ""

    def intact(self, record: Part) -> bool:
        """Whether the record's bytes have the checksum that stands behind them."""
        starts = range(record.start, record.stop, BLOCK_BYTES)
        blocks = (self._read(at, min(BLOCK_BYTES, record.stop - at)) for at in starts)
        foot = self._read(record.stop, FOOTER.size)
        return len(foot) == FOOTER.size and FOOTER.unpack(foot)[0] == masked(crc32c(blocks))

    def features(self, record: Part) -> dict[str, tuple[int, Part]]:
        """The features of the Example in a record. Raises DamagedRecord."""
        found: dict[str, tuple[int, Part]] = {}
        for features in self._messages(record, 1):
            for entry in self._messages(features, 1):
                name = ""
                feature = (0, entry)
                for field in self._fields(entry):
                    if field.number == 1 and field.kind == BYTES:
                        name = self.text(field.value, MAX_NAME_BYTES)
                    elif field.number == 2 and field.kind == BYTES:
                        lists = [one for one in self._fields(field.value) if one.kind == BYTES]
                        if lists:
                            feature = (lists[-1].number, lists[-1].value)
                found[name] = feature
        return found

    def values(self, of: Part) -> list[Field]:
        """The fields of a bytes list, one a value. Raises DamagedRecord."""
        return [field for field in self._fields(of) if field.number == 1 and field.kind == BYTES]

    def numbers(self, kind: int, of: Part) -> np.ndarray:
        """float32 or int64 [n] of a float or int64 list, packed or not. Raises DamagedRecord."""
        parts: list[np.ndarray] = []
        for field in self._fields(of):
            if field.number != 1:
                continue
            if kind == FLOAT_LIST and field.kind in (BYTES, FIXED32):
                if field.value.size % 4:
                    raise DamagedRecord(
                        f"floats at byte {field.at:,} have {field.value.size} bytes"
                    )
                parts.append(np.frombuffer(self._whole(field.value), "<f4"))
            elif kind == INT64_LIST and field.kind == BYTES:
                parts.append(_varints(self._whole(field.value), field.at))
            elif kind == INT64_LIST and field.kind == VARINT:
                parts.append(np.array([field.varint], np.uint64).view(np.int64))
            else:
                raise DamagedRecord(f"at byte {field.at:,} there is no number")
        if parts:
            return np.concatenate(parts)
        return np.empty(0, np.float32 if kind == FLOAT_LIST else np.int64)

    def text(self, value: Part, most: int = MAX_TEXT_BYTES) -> str:
        """The first `most` bytes as UTF-8; what is none becomes U+FFFD."""
        return self._read(value.start, min(value.size, most)).decode("utf-8", "replace")

    def image(self, at: int) -> io.BufferedReader:
        """The value of a bytes list whose field begins at byte `at`, as a file.

        Raises ImageProblem (`missing_image`).
        """
        try:
            field = next(self._fields(Part(at, self.size)), None)
        except DamagedRecord as error:
            raise ImageProblem("missing_image", str(error)) from error
        if field is None or field.number != 1 or field.kind != BYTES:
            raise ImageProblem("missing_image", f"at byte {at:,} begins no value")
        return io.BufferedReader(Span(self.file, field.value.start, field.value.size))

    def _messages(self, within: Part, number: int) -> Iterator[Part]:
        for field in self._fields(within):
            if field.number == number and field.kind == BYTES:
                yield field.value

    def _fields(self, within: Part) -> Iterator[Field]:
        at = within.start
        while at < within.stop:
            head = self._read(at, min(20, within.stop - at))
            key, used = _varint(head, 0, at)
            kind = key & 7
            number = 0
            if kind in (VARINT, BYTES):
                number, used = _varint(head, used, at)
            elif kind not in (FIXED32, FIXED64):
                raise DamagedRecord(f"at byte {at:,} begins no field")
            size = {VARINT: 0, FIXED64: 8, FIXED32: 4, BYTES: number}[kind]
            value = Part(at + used, at + used + size)
            if value.stop > within.stop:
                raise DamagedRecord(f"the field at byte {at:,} reaches beyond its message")
            yield Field(at, key >> 3, kind, value, number)
            at = value.stop

    def _whole(self, part: Part) -> bytes:
        content = self._read(part.start, part.size)
        if len(content) < part.size:
            raise DamagedRecord(f"the file ends in the values at byte {part.start:,}")
        return content

    def _read(self, at: int, size: int) -> bytes:
        """Up to `size` bytes; fewer at the file's end."""
        return os.pread(self.file.fileno(), size, at)


def _varint(head: bytes, at: int, where: int) -> tuple[int, int]:
    """(the number that begins at `at`, the place behind it)."""
    value = 0
    for place in range(10):
        if at + place >= len(head):
            break
        byte = head[at + place]
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at + place + 1
    raise DamagedRecord(f"the number at byte {where:,} does not end")


def _varints(content: bytes, where: int) -> np.ndarray:
    """int64 [n] of packed numbers."""
    octets = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(octets < 0x80)
    if len(octets) and (not len(ends) or ends[-1] != len(octets) - 1):
        raise DamagedRecord(f"the numbers at byte {where:,} do not end")
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    if len(lengths) and lengths.max() > 10:
        raise DamagedRecord(f"a number at byte {where:,} has {lengths.max()} bytes")
    found = np.zeros(len(starts), np.uint64)
    for place in range(int(lengths.max(initial=0))):
        here = lengths > place
        part = octets[starts[here] + place].astype(np.uint64) & np.uint64(0x7F)
        found[here] |= part << np.uint64(7 * place)
    return found.view(np.int64)
