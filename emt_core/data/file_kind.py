"""What a file really is that cannot be read as its format; which files are copies."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from emt_core.errors import EmtError

UNPACK = "unpack it first"
HEADS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (b"\x1f\x8b", "compressed (gzip)", UNPACK),
    (b"PK\x03\x04", "a zip archive", UNPACK),
    (b"BZh", "compressed (bzip2)", UNPACK),
    (b"\xfd7zXZ", "compressed (xz)", UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed (zstandard)", UNPACK),
    (b"\xff\xfe", "text in UTF-16", "write it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "write it as UTF-8"),
    (b"<!doctype html", "a web page, not the file itself", "download it again, signed in"),
    (b"<html", "a web page, not the file itself", "download it again, signed in"),
)
"""First bytes (in lower case), what such a file is, and the remedy."""


def mistaken(head: bytes) -> tuple[str, str] | None:
    """(what the file is, remedy) by its first 32 bytes, where it is a well-known other thing."""
    if not head:
        return "empty", "fetch or write it again"
    head = head.lstrip() if head.lstrip().startswith(b"<") else head
    found = (facts[1:] for facts in HEADS if head.lower().startswith(facts[0].lower()))
    return next(found, None)


def unreadable(what: str, path: Path, remedy: str) -> EmtError:
    """The error of a file that cannot be read as its format; `mistaken` speaks first."""
    try:
        with path.open("rb") as file:
            other = mistaken(file.read(32))
    except OSError:
        other = None
    if other is not None:
        return EmtError(f"{what}: it is {other[0]}", where=path, remedy=other[1])
    return EmtError(what, where=path, remedy=remedy)


def is_copy(path: str) -> bool:
    """Whether a path is of the copies that systems leave: `.ipynb_checkpoints`, `._x`, `__MACOSX`.

    Names that begin with a dot, at any depth; `.` and `..` are none.
    """
    parts = PurePosixPath(path).parts
    return any(part == "__MACOSX" or (part[0] == "." and part != "..") for part in parts)


def real_files(found: Iterable[Path], folder: Path) -> list[Path]:
    """Files below `folder` in the order of names, without hidden ones and copies.

    Raises EmtError for a link to nothing, a pipe or a device: its rows would be lost in silence.
    """
    mine = sorted(path for path in found if not is_copy(path.relative_to(folder).as_posix()))
    astray = next((path for path in mine if not path.is_file() and not path.is_dir()), None)
    if astray is not None:
        raise EmtError(
            "a file of the source is a link to nothing, a pipe or a device", where=astray
        )
    return [path for path in mine if path.is_file()]
