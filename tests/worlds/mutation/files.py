"""Damage to the bytes of a file, and to the file as a whole."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from random import Random

EXTREMES = (b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 8, b"\0" * 8)
OTHER_FILES = (
    b"",
    b"\n",
    b"\0" * 4096,
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    b"PK\x03\x04" + b"\0" * 64,
    b"\xff\xfe[\0]\0",
    b"<!doctype html><html></html>",
    b"[]",
    b"{}",
    b"null",
    gzip.compress(b"[]", mtime=0),
)


def damaged(data: bytes, rng: Random, *, start: int = 0, stop: int | None = None) -> bytes:
    """The bytes with one to three damages between `start` and `stop`; the length may change."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        end = len(data) if stop is None else min(stop, len(data))
        data = data[:start] + _damage(data[start:end], rng) + data[end:]
    return data


def flipped(data: bytes, rng: Random, *, start: int = 0, stop: int | None = None) -> bytes:
    """The bytes with one to eight of them changed; the length stays."""
    found = bytearray(data)
    stop = len(data) if stop is None else stop
    for _ in range(rng.randint(1, 8) if stop > start else 0):
        found[rng.randrange(start, stop)] ^= rng.randint(1, 255)
    return bytes(found)


def _damage(part: bytes, rng: Random) -> bytes:
    size = len(part)
    if not size:
        return rng.randbytes(rng.randint(1, 16))
    at = rng.choice(
        [
            rng.randrange(size),
            rng.randrange(min(size, 512)),
            size - 1 - rng.randrange(min(size, 512)),
        ]
    )
    span = min(size - at, rng.choice([1, 2, 4, 64, 512, size]))
    what = rng.randrange(9)
    if what < 3:
        return flipped(part, rng, start=at, stop=min(at + 64, size))
    if what == 3:
        return part[:at]
    if what == 4:
        return part[:at] + part[at + span :]
    if what == 5:
        return part[:at] + part[at : at + span] * 2 + part[at + span :]
    if what == 6:
        return part[:at] + rng.randbytes(rng.choice([1, 2, 16, 512])) + part[at:]
    if what == 7:
        return part[:at] + bytes(span) + part[at + span :]
    return part[:at] + rng.choice(EXTREMES) + part[at + 4 :]


def damage(path: Path, rng: Random) -> str:
    """Damage the bytes of a file. Returns what was done."""
    data = path.read_bytes()
    if rng.random() < 0.1:
        path.write_bytes(rng.choice(OTHER_FILES))
        return f"{path.name}: another file in its place"
    path.write_bytes(damaged(data, rng))
    return f"{path.name}: bytes damaged"


def misplace(path: Path, rng: Random) -> str:
    """Put something that is no plain file in the place of a file. Returns what was done."""
    data = path.read_bytes()
    path.unlink()
    what = rng.choice(["gone", "folder", "pipe", "loop", "astray", "zero", "sparse", "linked"])
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(path.name)
    elif what == "astray":
        path.symlink_to("nowhere/at/all")
    elif what == "zero":
        path.symlink_to("/dev/zero")
    elif what == "sparse":
        path.write_bytes(data)
        os.truncate(path, 2**30)
    elif what == "linked":
        aside = path.with_name(path.name + ".linked")
        aside.write_bytes(data)
        path.symlink_to(aside.name)
    return f"{path.name}: {what}"
