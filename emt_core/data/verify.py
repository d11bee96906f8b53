"""Hashes every byte of the inputs, which the bounded fingerprint in the key of `sources` does not.

<workspace>/verified/KEY.jsonl          {"source", "file", "bytes", "sha256"} a line; last {"files"}
<workspace>/verified/KEY.changed.jsonl  {"source", "file", "was", "is"} a line, of the last pass

KEY is that of `sources`. The first pass keeps the hashes; interrupted, it goes on behind the last
line. Every later pass compares.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from filelock import Timeout

from emt_core.data.index import Index, SourceRange
from emt_core.data.paths import PathLeavesRoot, inside
from emt_core.data.readers import locate, reader_of
from emt_core.errors import EmtError
from emt_core.recipe.sources import SourcesConfig
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import write_text
from emt_core.workspace.progress import Progress

CHUNK_BYTES = 4 * 2**20
REMEMBERED = 100_000
"""Image files remembered as hashed; one that comes again after so many is hashed again."""


@dataclass(frozen=True)
class Verdict:
    """recorded: this pass kept the first hashes. changed: {"source", "file", "was", "is"}; "" where
    a file is gone."""

    files: int
    bytes: int
    recorded: bool
    changed: list[dict[str, str]]
    record: Path


def verify(workspace: Workspace, sources: Artifact, progress: Progress) -> Verdict:
    """Hash every file that a `sources` artifact was read from. Streams; holds the list of changes
    only.

    Raises EmtError in a workspace opened for viewing, where a source is not at its place any more,
    and while another process is at it.
    """
    record = workspace.path / "verified" / f"{sources.key}.jsonl"
    try:
        with workspace.lock("verified", sources.key, wait=False):
            return _verify(record, sources, progress)
    except Timeout as error:
        raise EmtError(
            "another process is hashing these inputs",
            where=record,
            remedy="wait until it has finished",
        ) from error


def _verify(record: Path, sources: Artifact, progress: Progress) -> Verdict:
    known = _known(record)
    if known.complete:
        return _compare(record, known, progress)
    mode = "r+" if record.exists() else "w"
    with (
        record.open(mode, encoding="utf-8") as file,
        progress.track("hashing", None, done=known.files, unit="files") as t,
    ):
        file.seek(known.end)
        file.truncate()  # a line that a kill cut short
        count = known.files
        total = known.bytes
        for source, path in islice(_files(sources), known.files, None):
            size, digest = _hash(path)
            file.write(
                json.dumps({"source": source, "file": str(path), "bytes": size, "sha256": digest})
                + "\n"
            )
            count += 1
            total += size
            t.advance()
        file.write(json.dumps({"files": count}) + "\n")
    return Verdict(count, total, True, [], record)


def _compare(record: Path, known: _Known, progress: Progress) -> Verdict:
    changed = []
    with (
        record.open(encoding="utf-8") as file,
        progress.track("hashing again", known.files, unit="files") as tracker,
    ):
        for text in islice(file, known.files):
            line = json.loads(text)
            _, digest = _hash(Path(line["file"]))
            if digest != line["sha256"]:
                changed.append(
                    {
                        "source": line["source"],
                        "file": line["file"],
                        "was": line["sha256"],
                        "is": digest,
                    }
                )
            tracker.advance()
    write_text(
        record.with_suffix(".changed.jsonl"), "".join(json.dumps(line) + "\n" for line in changed)
    )
    return Verdict(known.files, known.bytes, False, changed, record)


def _files(sources: Artifact) -> Iterator[tuple[str, Path]]:
    """(source name, file), each once: what the readers read, then the images that rows name."""
    config = SourcesConfig.model_validate(sources.config)
    index = Index(sources)
    for source, rows in zip(config.sources, index.sources, strict=True):
        data = locate(source, Path(sources.manifest["base"]))
        found = reader_of(source).files(source, data)
        read = dict.fromkeys((*found.index, *found.bulk))
        yield from ((source.name, path) for path in read)
        yield from ((source.name, path) for path in _images(index, rows) if path not in read)


def _images(index: Index, rows: SourceRange) -> Iterator[Path]:
    seen: dict[str, None] = {}
    for batch in index.table.scan(["images"], start=rows.start, stop=rows.stop, batch_rows=2048):
        for ref in (ref for refs in batch.column(0).to_pylist() for ref in refs):
            if ref["kind"] != "file" or ref["path"] in seen:
                continue
            seen[ref["path"]] = None
            if len(seen) > REMEMBERED:
                del seen[next(iter(seen))]
            try:
                yield inside(rows.root, ref["path"])
            except PathLeavesRoot:  # a counted reject of the stages; nothing of it is ever read
                continue


def _hash(path: Path) -> tuple[int, str]:
    """Size and SHA-256; (0, "") where the file is gone."""
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except FileNotFoundError:
        return 0, ""
    return size, digest.hexdigest()


@dataclass
class _Known:
    """What a record holds: whole lines, their bytes of input, where the last one ends in the
    file."""

    files: int = 0
    bytes: int = 0
    end: int = 0
    complete: bool = False


def _known(record: Path) -> _Known:
    found = _Known()
    if not record.exists():
        return found
    with record.open("rb") as file:
        for text in file:
            if not text.endswith(b"\n"):
                break
            line = json.loads(text)
            if "files" in line:
                found.complete = True
                break
            found.files += 1
            found.bytes += line["bytes"]
            found.end += len(text)
    return found
