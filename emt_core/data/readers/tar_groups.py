"""Members of a tar archive by their key, each found again by its byte offset.

A key is a member's name up to the first dot. Links are followed to the member that they name,
archives that were written one behind another are read to the end, hidden copies are passed over.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from emt_core.data.file_kind import is_copy, unreadable
from emt_core.data.images.formats import readable_suffixes
from emt_core.data.readers.conversation import RowProblem

TEXTS = ("txt", "json")
MAX_TEXT_BYTES = 64 * 2**20
ZEROS = bytes(tarfile.BLOCKSIZE)
UNREAD_IMAGES = frozenset({"heic", "heif", "jxl", "svg", "cr2", "nef", "dng", "raw", "exr"})
"""Suffixes of images that Pillow does not know; those that it knows and we do not read are asked of
it."""

UNREADABLE = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, RecursionError)
"""What tarfile raises for an archive that is cut off or damaged: its own errors for most, others
for numbers that are none or too large, and for headers of headers."""

MEDIA = frozenset("mp4 webm mkv avi mov m4v mpg mpeg wav mp3 flac ogg m4a aac opus".split())


@dataclass
class Group:
    """Members of one key. images: (suffix of the name, member name, byte offset of the data)."""

    key: str
    images: list[tuple[str, str, int]] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)
    """By suffix: `txt`, `json`; `05.txt` where the key has dots."""
    members: list[str] = field(default_factory=list)
    problem: RowProblem | None = None

    @property
    def text(self) -> bytes | None:
        return self.texts.get("txt")

    @property
    def json(self) -> bytes | None:
        return self.texts.get("json")


def archive_parts(path: Path) -> Iterator[Iterator[Group]]:
    """The groups of each archive in the file: most hold one, `cat a.tar b.tar` makes two.

    Raises EmtError where one is compressed, cut off, or no tar.
    """
    with path.open("rb") as file:
        part = _Part(path, file)
        while part.begins():
            yield part.groups()


class _Part:
    """One archive after another of an open file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.start = 0
        self.parts = 0
        self.last: tarfile.TarInfo | None = None

    def begins(self) -> bool:
        """Whether an archive begins at `start`, zero blocks passed over; the first one always."""
        self.parts += 1
        if self.parts == 1:
            return True
        while (block := os.pread(self.file.fileno(), len(ZEROS), self.start)) == ZEROS:
            self.start += len(ZEROS)
        return bool(block.strip(b"\0"))

    def groups(self) -> Iterator[Group]:
        group: Group | None = None
        self.file.seek(self.start)
        try:
            with tarfile.open(fileobj=self.file, mode="r:") as tar:
                links = _Links(self.path, self.start)
                for member in tar:
                    self.last = member
                    # tarfile keeps every header it saw: a million of them would fill memory
                    tar.members = []  # type: ignore[attr-defined]
                    key, suffix = _named(member)
                    if not suffix:
                        continue
                    if group is None or group.key != key:
                        if group is not None:
                            yield from _by_dots(group)
                        group = Group(key)
                    _add(group, self.file, links.target(member), member.name, suffix)
                # tarfile takes a cut or a fault in a header for the end; only the zero block that
                # every writer leaves is one
                block = os.pread(self.file.fileno(), len(ZEROS), tar.offset)
                if not block or block.strip(b"\0"):
                    raise tarfile.ReadError("its end marker is missing")
                self.start = tar.offset
        except UNREADABLE as error:
            last = self.last
            after = f" after {last.name!r}, byte {last.offset_data + last.size:,}" if last else ""
            raise unreadable(
                f"the archive cannot be read{after} ({error})",
                self.path,
                "it may be cut off: fetch it again",
            ) from error
        if group is not None:
            yield from _by_dots(group)


def _named(member: tarfile.TarInfo) -> tuple[str, str]:
    """(key, suffix in lower case); no suffix for what belongs to no sample."""
    folder, _, base = member.name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    linked = member.islnk() or member.issym()
    if not (member.isfile() or linked) or not dot or not stem or is_copy(member.name):
        return "", ""
    return (f"{folder}/{stem}" if folder else stem), suffix.lower()


class _Links:
    """Finds the members that links name; looks through the archive at the first link only."""

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        self.start = start
        self.members: dict[str, Any] | None = None

    def target(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """The member itself, or the file that its link leads to; None where there is none."""
        for _ in range(8):
            if member.isfile():
                return member
            named = member.linkname
            if member.issym():
                named = posixpath.join(posixpath.dirname(member.name), named)
            found = self._all().get(posixpath.normpath(named))
            if found is None or not (found.isfile() or found.islnk() or found.issym()):
                return None
            member = found
        return None

    def _all(self) -> dict[str, Any]:
        if self.members is None:
            with self.path.open("rb") as file:
                file.seek(self.start)
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    self.members = {posixpath.normpath(m.name): m for m in tar}
        return self.members


def _add(
    group: Group, file: BinaryIO, target: tarfile.TarInfo | None, name: str, suffix: str
) -> None:
    """target: the member that holds the data of `name`; None for a link that leads nowhere."""
    kind = suffix.rpartition(".")[2]
    problem = _problem(kind, name, twice=name in group.members, astray=target is None)
    group.members.append(name)
    if problem is not None:
        group.problem = problem
    elif target is not None and kind in TEXTS:
        size = min(target.size, MAX_TEXT_BYTES)
        group.texts[suffix] = os.pread(file.fileno(), size, target.offset_data)
    elif target is not None and kind in readable_suffixes():
        group.images.append((suffix, name, target.offset_data))


def _problem(kind: str, name: str, *, twice: bool, astray: bool) -> RowProblem | None:
    """Why the row of a member cannot be read; None also for members that no row needs."""
    if kind in MEDIA:
        return RowProblem("video_not_read", f"the archive has {name!r} of this key")
    if kind not in TEXTS and kind not in readable_suffixes():
        if kind in UNREAD_IMAGES or f".{kind}" in Image.EXTENSION:
            return RowProblem("undecodable_image", f"{name!r} is of no image format that is read")
        return None
    if twice:
        return RowProblem("unreadable_row", f"the archive has two members {name!r}")
    if astray:
        return RowProblem("missing_image", f"{name!r} is a link to no file of the archive")
    return None


def _by_dots(group: Group) -> Iterator[Group]:
    """The group, or several where its keys have dots: no text is of the whole key, and each shares
    its longer name with an image (22.05.png, 22.05.txt)."""
    of_texts = {suffix.rpartition(".")[0] for suffix in group.texts}
    of_images = {suffix.rpartition(".")[0] for suffix, _, _ in group.images}
    if not of_texts or "" in of_texts or (of_images and not of_texts <= of_images):
        yield group
        return
    parts: dict[str, Group] = {}

    def part(longer: str, name: str) -> Group:
        key = f"{group.key}.{longer}"
        mine = parts.setdefault(key, Group(key, problem=group.problem))
        mine.members.append(name)
        return mine

    for suffix, name, at in group.images:
        longer, _, kind = suffix.rpartition(".")
        part(longer, name).images.append((kind, name, at))
    for suffix, text in group.texts.items():
        longer, _, kind = suffix.rpartition(".")
        part(longer, f"{group.key}.{suffix}").texts[kind] = text
    yield from parts.values()
