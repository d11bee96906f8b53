"""HF datasets as a stream, from the hub or from a local folder of .parquet or .arrow files.

A stream has no random access: its images are looked at (header only) as they go by, and
`stream_cells` goes through them once more, in the same order, when they are embedded. Only images
whose bytes are in the rows are had.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from emt_core.data.images.decode import decode_image
from emt_core.data.images.handles import ImageProblem

if TYPE_CHECKING:
    from emt_core.recipe.sources import HFSource

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from emt_core.data.images.decode import check_bytes
from emt_core.data.readers.columns import read_row, wanted_columns
from emt_core.data.readers.conversation import RowProblem, reject
from emt_core.data.sample import ImageRef, Reject, Sample
from emt_core.errors import EmtError
from emt_core.recipe.sources import HFSource


def read(source: HFSource, data: Path) -> Iterator[Sample | Reject]:
    """Samples with `stream` references. Raises EmtError where the stream breaks off."""
    for row, record in enumerate(_rows(source, data)):
        if row == 0:
            wanted_columns(source, list(record), data)
        try:
            cells = _cells(source, record)
            found = read_row(
                source,
                record,
                [(position, None) for position in range(len(cells))],
                ImageRef(kind="stream", path=source.path, member=source.images or "", index=row),
                row=row,
                root=data,
            )
            for content in cells:
                problem = (
                    check_bytes(content, source.max_pixels)
                    if content
                    else ("missing_image", "no bytes in the row")
                )
                if problem and isinstance(found, Sample):
                    raise RowProblem(*problem)
            yield found
        except RowProblem as problem:
            yield reject(
                source.name, row, problem, record.get(source.own_id) if source.own_id else None
            )


def stream_cells(source: HFSource, data: Path) -> Iterator[tuple[int, list[bytes | None]]]:
    """(row, encoded images), every row of the stream up to `limit`, in the order of `read`."""
    for row, record in enumerate(islice(_rows(source, data), source.limit)):
        try:
            yield row, _cells(source, record)
        except RowProblem:
            yield row, []


def _cells(source: HFSource, record: Mapping[str, Any]) -> list[bytes | None]:
    value = record.get(source.images) if source.images else None
    found: list[bytes | None] = []
    for item in value if isinstance(value, list) else [value]:
        content = item.get("bytes") if isinstance(item, Mapping) else item
        if item is None or (isinstance(item, Mapping) and content is None and not item.get("path")):
            continue
        if content is not None and not isinstance(content, bytes):
            raise RowProblem(
                "missing_image",
                f"the stream's rows hold no image bytes, but {type(content).__name__}",
            )
        found.append(content)
    return found


def _rows(source: HFSource, data: Path) -> Iterator[dict[str, Any]]:
    import datasets

    try:
        if data.is_dir():
            builder, paths = local_files(source, data)
            names = [str(path) for path in paths]
            stream: Any = datasets.load_dataset(
                builder, data_files=names, split="train", streaming=True
            )
        else:
            stream = datasets.load_dataset(
                source.path,
                source.subset,
                split=source.split,
                revision=source.revision,
                streaming=True,
            )
        if stream.features is not None:
            stream = stream.decode(False)
        yield from stream
    except EmtError:
        raise
    except (
        Exception
    ) as error:  # the client raises dozens of types: unreachable, gated, misspelt, cut off
        raise EmtError(
            f"the stream of {source.path!r} breaks off: {type(error).__name__}: {str(error)[:300]}",
            remedy="check name, subset, split, columns and network",
        ) from error


def local_files(source: HFSource, data: Path) -> tuple[str, list[Path]]:
    """(builder name, files by name) of a local folder, or of its folder named as the split."""
    folder = data / source.split if (data / source.split).is_dir() else data
    for builder in ("parquet", "arrow"):
        found = sorted(folder.rglob(f"*.{builder}"))
        if found:
            return builder, found
    raise EmtError("the folder holds neither .parquet nor .arrow files", where=folder)


def hub_commit(source: HFSource) -> str:
    """The commit of a hub name; no network where the revision is one. Raises EmtError."""
    if source.revision and re.fullmatch(r"[0-9a-f]{40}", source.revision):
        return source.revision
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(source.path, revision=source.revision).sha)
    except Exception as error:  # see _rows
        raise EmtError(
            f"the hub cannot be asked for {source.path!r}: {type(error).__name__}: "
            f"{str(error)[:200]}",
            remedy="check the name and the network, or pin `revision` to a commit (40 hex digits)",
        ) from error


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
