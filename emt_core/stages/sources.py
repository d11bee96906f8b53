"""sources: read pool and robot data into one index; check images; count and keep rejects.

index.lance      one row a sample (data/index.py)
rejects.jsonl    {"id", "source", "row", "own_id", "reason", "detail"} a line
sources.json     what is known of each source: its rows, counts of rejects, digest of its files

Interrupted, it goes on behind the last committed row. Rejects are flushed before the samples that
follow them, so the rejects file always reaches at least as far as the index; what lies beyond the
index is dropped and found again.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from emt_core.data.images.check import ImageChecker
from emt_core.data.index_writer import FINISHED, IndexWriter, Tally, totals
from emt_core.data.readers import (
    count,
    fingerprint,
    image_root,
    images_from,
    locate,
    read,
)
from emt_core.errors import EmtError, all_of
from emt_core.recipe.sources import SourceConfig, SourcesConfig
from emt_core.run.stage import Context, Outcome
from emt_core.workspace.artifact import digest_of
from emt_core.workspace.files import write_json

VERSION = 3


def identity(config: SourcesConfig, base: Path) -> list[dict[str, Any]]:
    """A fingerprint of each source's files, in order. Raises EmtError with all that is missing."""
    return all_of(partial(_identity, source, base) for source in config.sources)


def _identity(source: SourceConfig, base: Path) -> dict[str, Any]:
    return {"name": source.name, **fingerprint(source, locate(source, base))}


def run(context: Context) -> Outcome:
    """Raises EmtError where a source is empty, has no row that survives, or changed while read."""
    config: SourcesConfig = context.config  # type: ignore[assignment]
    writer = IndexWriter(context.out, context.runtime.commit_rows)
    sources = writer.resume()
    with ImageChecker(context.runtime.workers) as checker:
        for place, source in enumerate(config.sources):
            if place < len(sources):
                continue
            expected = context.identity[place] if context.identity else None
            sources.append(_read_source(context, source, writer, checker, expected))
            write_json(context.out / FINISHED, sources)
    write_json(context.out / "sources.json", sources)
    return Outcome(rows=writer.rows, metrics=totals(sources), scratch=(FINISHED,))


def _read_source(
    context: Context,
    source: SourceConfig,
    writer: IndexWriter,
    checker: ImageChecker,
    expected: dict[str, Any] | None,
) -> dict[str, Any]:
    data = locate(source, context.base)
    root = image_root(source, data)
    tally = writer.begin(source.name)
    rows = (row for row in read(source, data) if row.row > tally.last_row)
    total = count(source, data)
    doing = f"read {source.name}"
    with context.progress.track(doing, total, done=tally.seen, unit="rows") as tracker:
        for batch in checker.checked(rows, root, source.max_pixels):
            writer.add(batch)
            tracker.advance(len(batch))
    writer.commit()
    _check_survivors(source, data, tally, context.out / "rejects.jsonl")
    files = {"name": source.name, **fingerprint(source, data)}
    if expected is not None and files != expected:
        raise EmtError(
            f"source {source.name!r} changed while it was read",
            where=data,
            remedy="run again when it is settled",
        )
    return {
        "name": source.name,
        "role": source.role,
        "format": source.format,
        "root": str(root),
        "max_pixels": source.max_pixels,
        "start": tally.start,
        "stop": writer.rows,
        "seen": tally.seen,
        "kept": tally.kept,
        "rejects": dict(tally.rejects.most_common()),
        "text_only": tally.text_only,
        "multi_image": tally.multi_image,
        "bytes": files["bytes"],
        "digest": digest_of(files, 32),
    }


def _check_survivors(source: SourceConfig, data: Path, tally: Tally, rejects: Path) -> None:
    if tally.seen == 0:
        raise EmtError(
            f"source {source.name!r} is empty", where=data, remedy="check its path, or leave it out"
        )
    if tally.kept == 0:
        astray = {"missing_image", "bad_path"} & set(tally.rejects)
        hint = images_from(source, data) if astray else ""
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in tally.rejects.most_common(4))
        raise EmtError(
            f"no row of source {source.name!r} survives: {reasons}; for example: {tally.example}",
            where=data,
            remedy="; ".join(filter(None, (f"every row is in {rejects}", hint))),
        )
