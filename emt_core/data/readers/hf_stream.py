"""HF datasets as a stream, from the hub or from a local folder of .parquet or .arrow files.

A stream has no random access: its images are looked at (header only) as they go by, and
`stream_cells` goes through them once more, in the same order, when they are embedded. Only images
whose bytes are in the rows are had.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from emt_core.data.arrow_files import each_row, open_parquet, parquet_batches
from emt_core.data.file_kind import real_files, unreadable
from emt_core.data.hub import NoAnswer, ask_commit
from emt_core.data.images.base64_text import from_base64, is_base64
from emt_core.data.images.decode import decode_image
from emt_core.data.images.handles import ImageProblem, open_arrow
from emt_core.data.readers.conversation import RowProblem
from emt_core.data.splits import SPLITS, split_of
from emt_core.errors import EmtError
from emt_core.recipe.sources import HFSource


def stream_cells(source: HFSource, data: Path) -> Iterator[tuple[int, list[bytes | None]]]:
    """(row, encoded images), every row of the stream up to `limit`, in the order of `read`."""
    rows = (record for part in parts(source, data) for record in part.rows)
    for row, record in enumerate(islice(rows, source.limit)):
        found: list[bytes | None] = []
        if isinstance(record, dict):
            with suppress(RowProblem):
                found = cells(source, record)
        yield row, found


def cells(source: HFSource, record: Mapping[str, Any]) -> list[bytes | None]:
    """Encoded images of a row of the stream, None for one that is only named. Raises RowProblem."""
    value = record.get(source.images) if source.images else None
    found: list[bytes | None] = []
    for item in value if isinstance(value, list) else [value]:
        content = item.get("bytes") if isinstance(item, Mapping) else item
        if isinstance(content, str) and is_base64(content):
            try:
                content = from_base64(content)
            except ImageProblem as problem:
                raise RowProblem(problem.reason, problem.detail) from problem
        if item is None or (isinstance(item, Mapping) and content is None and not item.get("path")):
            continue
        if content is not None and not isinstance(content, bytes):
            raise RowProblem(
                "missing_image",
                f"the stream's rows hold no image bytes, but {type(content).__name__}",
            )
        found.append(content)
    return found


@dataclass(frozen=True)
class Part:
    """Rows of a stream that have one layout: those of a local file, or all of a hub set.

    where: for errors. rows: a text says what is wrong with a row that cannot be read.
    """

    where: object
    schema: pa.Schema
    rows: Iterator[dict[str, Any] | str]


def parts(source: HFSource, data: Path) -> Iterator[Part]:
    """The stream in order. Raises EmtError where it breaks off."""
    if not data.is_dir():
        yield _hub_part(source)
        return
    for path in local_files(source, data):
        if path.suffix == ".parquet":
            file = open_parquet(path)
            schema = file.schema_arrow
            batches = parquet_batches(file, path, BATCH_ROWS)
        else:
            table = arrow_table(path)
            schema = table.schema
            batches = table.to_batches(max_chunksize=BATCH_ROWS)
        yield Part(path, schema, _rows(batches, unseen=path.suffix == ".arrow"))


def _rows(batches: Iterable[pa.RecordBatch], *, unseen: bool) -> Iterator[dict[str, Any] | str]:
    for batch in batches:
        yield from each_row(batch, pa.RecordBatch.to_pylist, unseen=unseen)


def arrow_table(path: Path) -> Any:
    """A memory-mapped pa.Table. Raises EmtError."""
    try:
        return open_arrow(path)
    except ImageProblem as problem:
        what = f"an arrow shard cannot be read: {problem.detail}"
        raise unreadable(what, path, "it may be cut off: save it again") from problem


def _hub_part(source: HFSource) -> Part:
    """A hub set as the client streams it; bytes of images stay as they are."""
    import datasets

    with _told(source):
        stream: Any = datasets.load_dataset(
            source.path,
            source.subset,
            split=source.split,
            revision=source.revision,
            streaming=True,
        )
        if stream.features is None:
            schema = pa.schema([(name, pa.null()) for name in next(iter(stream.take(1)), {})])
        else:
            schema = stream.features.arrow_schema
            stream = stream.decode(False)
    return Part(f"the hub set {source.path}", schema, _hub_rows(source, stream))


def _hub_rows(source: HFSource, stream: Any) -> Iterator[dict[str, Any]]:
    with _told(source):
        yield from stream


@contextmanager
def _told(source: HFSource) -> Iterator[None]:
    try:
        yield
    except EmtError:
        raise
    except Exception as error:  # dozens of types: unreachable, gated, misspelt, cut off
        raise EmtError(
            f"the stream of {source.path!r} breaks off: {type(error).__name__}: {str(error)[:300]}",
            where=f"the hub set {source.path}",
            remedy="check name, subset, split, columns and network",
        ) from error


BATCH_ROWS = 64


def local_files(source: HFSource, data: Path) -> list[Path]:
    """The files of a folder's split by name; all are of train where none is named.

    Raises EmtError where no file is of the split.
    """
    for suffix in ("parquet", "arrow"):
        found = real_files(data.rglob(f"*.{suffix}"), data)
        if not found:
            continue
        if (data / "state.json").is_file():  # one split, saved without its name
            return found
        wanted = SPLITS.get(source.split, source.split)
        splits = {path: split_of(path.relative_to(data), source.split) for path in found}
        if not any(splits.values()):
            splits = dict.fromkeys(found, "train")
        mine = [path for path in found if splits[path] == wanted]
        if not mine:
            raise EmtError(
                f"source {source.name!r}: no file belongs to the split {source.split!r}",
                where=data,
                remedy=f"its splits are: {', '.join(sorted({*splits.values()} - {''}))}",
            )
        return mine
    raise EmtError("the folder holds neither .parquet nor .arrow files", where=data)


def hub_commit(source: HFSource) -> str:
    """The commit of a hub name; no network where the revision is one. Raises EmtError."""
    try:
        return ask_commit(source.path, source.revision, "dataset")
    except NoAnswer as answer:
        raise EmtError(
            f"the hub cannot be asked for {source.path!r}: {answer}",
            remedy="check the name and the network, or pin `revision` to a commit (40 hex digits)",
        ) from answer


def iter_stream_images(
    source: HFSource, root: Path
) -> Iterator[tuple[int, list[Image.Image | ImageProblem]]]:
    """(row, its images) of a stream in row order, rejected rows included: match by `Sample.row`."""

    for row, cells in stream_cells(source, root):
        images: list[Image.Image | ImageProblem] = []
        for content in cells:
            try:
                images.append(decode_image(io.BytesIO(content or b""), source.max_pixels))
            except ImageProblem as problem:
                images.append(problem)
        yield row, images
