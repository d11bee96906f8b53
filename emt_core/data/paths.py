"""Paths that come out of data: kept inside their source's folder.

Only the text of a path is judged, and links on disk are followed: a link was made by whoever owns
the disk (image folders are commonly linked in from elsewhere), a path in a downloaded file was not.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from emt_core.errors import EmtError

MAX_NAME = 255
MAX_PATH = 4_000
"""Bytes that Linux takes for the name of a file (of a path: 4,095 with those that we add)."""

ADDRESS = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class PathLeavesRoot(ValueError):
    """The path points outside its source's folder, or names no file at all."""


def relative_path(path: str, root: Path) -> str:
    """`path` as written in data -> the same relative to `root`, with forward slashes and no `..`.

    An absolute path is accepted where it lies in `root`. Backslashes part folders, as Windows
    writes them, unless a file of that very name is there. Raises PathLeavesRoot.
    """
    if not path or "\0" in path or any("\ud800" <= char <= "\udfff" for char in path):
        raise PathLeavesRoot(f"{path[:80]!r} is no path")
    if ADDRESS.match(path):
        raise PathLeavesRoot(f"{path[:200]!r} is an address: download the file, name its path")
    clean = path.removeprefix("file://")
    if "\\" in clean and not os.path.lexists(root / clean):
        clean = clean.replace("\\", "/")
    if clean.startswith("/"):
        inside = posixpath.relpath(posixpath.normpath(clean), os.path.abspath(root))  # noqa: PTH100 - links stay unresolved
    else:
        inside = posixpath.normpath(clean)
    if inside == ".." or inside.startswith(("../", "/")) or inside == ".":
        raise PathLeavesRoot(f"{path[:200]!r} leaves the source's folder")
    return inside


def name_below(root: Path, path: Path) -> str:
    """A data file as references name it, relative to `root`; "" where it lies elsewhere."""
    try:
        return relative_path(str(path.absolute()), root)
    except PathLeavesRoot:
        return ""


def inside(root: Path, path: str) -> Path:
    """The file that a data path names. Raises PathLeavesRoot."""
    return root / relative_path(path, root)


def data_file(path: str, root: Path) -> str:
    """As `relative_path`, for a file of rows. Raises PathLeavesRoot also where no disk takes such
    a name: asking for it would raise an OSError."""
    found = relative_path(path, root)
    if max(map(_bytes, found.split("/"))) > MAX_NAME or _bytes(f"{root}/{found}") > MAX_PATH:
        raise PathLeavesRoot(f"{path[:80]!r}... is too long for the name of a file")
    return found


def _bytes(name: str) -> int:
    return len(os.fsencode(name))


def existing(data: Path, source: str) -> Path:
    """The same path. Raises EmtError where no file or folder lies there, as a pipe or device is
    none: reading it might never end. source: the name of the source."""
    if not data.is_file() and not data.is_dir():
        raise EmtError(
            f"source {source!r}: there is no such file or folder",
            where=data,
            remedy="check `path`",
        )
    return data
