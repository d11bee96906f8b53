"""What identifies a source's content, in bounded work: part of the key of `sources`.

Index files (the JSON, the tables of a robot set) by content hash, so that a touched or copied file
is the same file; large data files (tars, parquet, videos) by relative path, size and mtime; image
files beside a JSON by the same for the first REFERENCED_IMAGES that it names. A GB JSON is hashed
once: the hash is kept in the user's cache by path, size and mtime.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError

REFERENCED_IMAGES = 5_000
CACHE_FROM_BYTES = 4 * 2**20
CHUNK_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class FileSet:
    """A source's files: `index` hashed by content, `bulk` told by size and mtime; below `base`."""

    base: Path
    index: tuple[Path, ...] = ()
    bulk: tuple[Path, ...] = ()
    facts: tuple[str, ...] = ()
    """Facts that no file holds, e.g. the commit of a hub set."""


def fingerprint_files(files: FileSet, loose: Iterable[Path] = ()) -> dict[str, Any]:
    """{index, bulk, loose: digests; files, bytes: totals}. Raises EmtError for a missing file."""
    index = hashlib.sha256()
    bulk = hashlib.sha256()
    beside = hashlib.sha256()
    total = count = 0
    for path in files.index:
        total += _stat(path).st_size
        index.update(f"{_name(path, files.base)}\0{content_hash(path)}\n".encode())
        count += 1
    for path in files.bulk:
        facts = _stat(path)
        total += facts.st_size
        bulk.update(f"{_name(path, files.base)}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
        count += 1
    for path in loose:
        try:
            facts = path.stat()
            beside.update(
                f"{_name(path, files.base)}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode()
            )
            count += 1
        except (
            OSError,
            ValueError,
        ):  # it becomes a counted reject; that it is missing is part of the content
            beside.update(f"{_name(path, files.base)}\0missing\n".encode())
    found = {
        "index": index.hexdigest()[:32],
        "bulk": bulk.hexdigest()[:32],
        "loose": beside.hexdigest()[:32],
    }
    return {**found, "facts": list(files.facts), "files": count, "bytes": total}


def _name(path: Path, base: Path) -> str:
    return os.path.relpath(path, base).replace(os.sep, "/")


def _stat(path: Path) -> os.stat_result:
    try:
        facts = path.stat()
    except OSError as error:
        raise EmtError(
            f"a file of the source cannot be read ({error.strerror})",
            where=path,
            remedy="check the source's path",
        ) from error
    if not stat.S_ISREG(facts.st_mode):
        raise EmtError("a file of the source is a folder, a pipe or a device", where=path)
    return facts


def content_hash(path: Path) -> str:
    """SHA-256 of the content, from the cache where path, size and mtime are known."""
    facts = _stat(path)
    cached = None
    if facts.st_size >= CACHE_FROM_BYTES:
        key = hashlib.sha256(
            f"{path.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}".encode()
        ).hexdigest()
        cached = cache_folder() / "content-hashes" / key[:2] / key
        try:
            known = cached.read_text(encoding="ascii")
            if len(known) == 64:
                return known
        except OSError:
            pass
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(CHUNK_BYTES):
                digest.update(block)
    except OSError as error:
        raise EmtError(
            f"a file of the source cannot be read ({error.strerror})", where=path
        ) from error
    if cached is not None:
        _keep(cached, digest.hexdigest())
    return digest.hexdigest()


def cache_folder() -> Path:
    """The user's cache of this program; safe to delete."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embodied-midtrain"


def _keep(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, delete=False, encoding="ascii"
        ) as file:
            file.write(text)
        Path(file.name).replace(path)
    except OSError:
        return  # a cache that cannot be written costs time, nothing else
