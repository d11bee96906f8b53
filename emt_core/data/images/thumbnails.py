"""Thumbnails, made on demand from image references and kept in a bounded cache of the workspace.

<workspace>/cache/thumbs/<2 hex>/<hash>.webp     safe to delete at any time; in a workspace opened
                                                 for viewing, a temporary folder instead

A name holds the source file's size and mtime, so a changed image gets a new thumbnail and the old
one ages out. Several processes share the folder: files are written aside and renamed, and one that
another process evicts is made again.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from emt_core.data.images.decode import ImageProblem, open_image
from emt_core.data.index import SourceRange
from emt_core.data.paths import PathLeavesRoot, inside
from emt_core.data.sample import ImageRef
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.table import Table

CACHE_BYTES = 256 * 2**20
EVICT_EVERY = 256  # writes of this process between two looks at the folder's size
KEPT_SHARE = 0.8
TOUCH_AFTER_S = 3600.0

_writes = itertools.count(1)


def thumbnail(
    workspace: Workspace,
    source: SourceRange,
    ref: ImageRef,
    size: int = 160,
    *,
    embed: Artifact | None = None,
    row: int | None = None,
) -> bytes:
    """WebP of at most `size` pixels a side; a neutral placeholder where the image cannot be had.

    For a stream (no random access) give the embed artifact and the index row: its `thumbs.lance`
    was filled as the stream went by.
    """
    if ref.kind == "stream":
        kept = stored_thumbnail(embed, row) if embed is not None and row is not None else None
        return kept if kept is not None else placeholder(size)
    try:
        facts = inside(source.root, ref.path).stat()
    except (OSError, PathLeavesRoot, ValueError):
        return placeholder(size)
    name = f"{source.root}\0{ref!r}\0{size}\0{facts.st_size}\0{facts.st_mtime_ns}"
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    path = workspace.cache("thumbs") / digest[:2] / f"{digest}.webp"
    known = _cached(path)
    if known is not None:
        return known
    try:
        image = open_image(ref, source.root, source.max_pixels, at_least=size)
        content = encode_thumbnail(image, size)
    except ImageProblem:
        return placeholder(size)
    _keep(path, content)
    return content


def encode_thumbnail(image: Image.Image, size: int = 160) -> bytes:
    small = image.copy()
    small.thumbnail((size, size))
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=80, method=2)
    return encoded.getvalue()


@lru_cache(maxsize=8)
def placeholder(size: int = 160) -> bytes:
    """A grey square with a slashed frame: no image to show."""
    image = Image.new("RGB", (size, size), (236, 237, 240))
    draw = ImageDraw.Draw(image)
    low = round(size * 0.34)
    high = round(size * 0.66)
    line = max(size // 60, 1)
    draw.rectangle((low, low, high, high), outline=(176, 180, 188), width=line)
    draw.line((low, high, high, low), fill=(176, 180, 188), width=line)
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=80)
    return encoded.getvalue()


def stored_thumbnail(embed: Artifact, row: int) -> bytes | None:
    """The thumbnail that the embed stage stored for an index row of a stream source, or None."""
    table = Table(embed.data / "thumbs.lance")
    rows = _stored_rows(table.path)
    at = int(np.searchsorted(rows, row))
    if at == len(rows) or rows[at] != row:
        return None
    return table.take([at], ["webp"]).column(0)[0].as_py()


@lru_cache(maxsize=8)
def _stored_rows(path: Path) -> np.ndarray:
    """int64, rising; a finished artifact never changes, so it is read once."""
    table = Table(path)
    return table.column("row").astype(np.int64) if table.exists() else np.empty(0, np.int64)


def _cached(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
        if time.time() - path.stat().st_mtime > TOUCH_AFTER_S:
            os.utime(path)  # eviction takes what was not asked for the longest
        return content or None
    except OSError:
        return None


def _keep(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)
    except OSError:
        return  # a cache that cannot be written costs time, nothing else
    if next(_writes) % EVICT_EVERY == 0:
        evict(path.parents[1])


def evict(folder: Path, limit: int = CACHE_BYTES) -> int:
    """Delete the least recently used ones down to KEPT_SHARE of the limit; returns how many."""
    found = []
    for path in folder.glob("*/*"):
        try:
            facts = path.stat()
            found.append((facts.st_mtime, facts.st_size, path))
        except OSError:
            continue
    total = sum(size for _, size, _ in found)
    dropped = 0
    if total <= limit:
        return 0
    for _, size, path in sorted(found):
        if total <= limit * KEPT_SHARE:
            break
        path.unlink(missing_ok=True)
        total -= size
        dropped += 1
    return dropped
