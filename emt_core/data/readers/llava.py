"""LLaVA JSON: one array of any size (streamed), or JSON lines.

    {"id": "000000033471", "image": "coco/train2017/000000033471.jpg",
     "conversations": [{"from": "human", "value": "<image>\\nWhat ..."},
                       {"from": "gpt", "value": "..."}]}

`image` may be absent (text only), a path, or a list of paths; `images` is read as well. Paths are
relative to `image_root`; an image may also stand in the row, as base64. Other names of fields, and
rows of a question with its answer or choices, are said by the source's columns. Ids repeat in real
files and are only kept. A row with images and no `<image>` gets them in front.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from emt_core.data.fingerprint import FileSet
from emt_core.data.images.base64_text import is_base64
from emt_core.data.paths import PathLeavesRoot, relative_path
from emt_core.data.readers.columns import row_turns, text_fields
from emt_core.data.readers.conversation import RowProblem, build_sample, reject, unmarked
from emt_core.data.readers.json_stream import BrokenLine, stream_rows
from emt_core.data.sample import ImageRef, Reject, Sample
from emt_core.recipe.sources import LlavaSource


def loose_images(source: LlavaSource, data: Path) -> bool:
    return True


def image_root(source: LlavaSource, data: Path) -> Path:
    return (data.parent / source.image_root).absolute()


def files(source: LlavaSource, data: Path) -> FileSet:
    return FileSet(base=data.parent, index=(data,))


def count(source: LlavaSource, data: Path) -> int | None:
    return None  # only known when the file has been read


def read(source: LlavaSource, data: Path) -> Iterator[Sample | Reject]:
    """Samples and rejects in the file's row order. Raises EmtError where the file breaks off."""
    root = image_root(source, data)
    own_id = source.own_id or "id"
    for row, (at, record) in enumerate(stream_rows(data)):
        try:
            yield _sample(source, root, data, row, at, record)
        except RowProblem as problem:
            own = record.get(own_id) if isinstance(record, Mapping) else None
            yield reject(source.name, row, problem, own)


def _sample(source: LlavaSource, root: Path, data: Path, row: int, at: int, record: Any) -> Sample:
    """at: byte of the file at which the row begins."""
    if isinstance(record, BrokenLine):
        raise RowProblem("unreadable_row", record.detail)
    if not isinstance(record, Mapping):
        raise RowProblem("unreadable_row", f"a row is an object, not {type(record).__name__}")
    named = source.images
    field = named or next((name for name in ("image", "images") if record.get(name)), "image")
    own_id = source.own_id or "id"
    used = (own_id, field, "image", "images", *text_fields(source))
    return build_sample(
        source=source.name,
        row=row,
        role=source.role,
        turns=unmarked(row_turns(source, record), source.remove),
        images=file_refs(record.get(field), root, inline=_inline(root, data, field, at)),
        missing="lead",
        own_id=record.get(own_id),
        meta={
            name: value
            for name, value in record.items()
            if (name in source.meta if source.meta else name not in used)
        },
    )


def _inline(root: Path, data: Path, field: str, at: int) -> ImageRef | None:
    """The place of an image that stands in the row itself; None where the file is out of reach."""
    try:
        path = relative_path(str(data.absolute()), root)
    except PathLeavesRoot:
        return None
    return ImageRef(kind="json", path=path, member=field, index=at)


def file_refs(
    paths: Any, root: Path, folder: str = "", *, inline: ImageRef | None = None
) -> tuple[ImageRef, ...]:
    """Images of None, a path or several. Raises RowProblem: bad_path, unreadable_row.

    inline: the place of base64 text that stands instead of a path.
    """
    if paths is None or paths == "" or paths != paths:  # pandas writes NaN for none
        return ()
    listed = [paths] if isinstance(paths, str) else paths
    if not isinstance(listed, list | tuple) or not all(isinstance(path, str) for path in listed):
        raise RowProblem(
            "unreadable_row", f"images are a path or a list of paths, not {str(paths)[:60]!r}"
        )
    return tuple(
        _file_ref(path, root, folder, inline and replace(inline, position=position))
        for position, path in enumerate(listed)
    )


def _file_ref(path: str, root: Path, folder: str, inline: ImageRef | None) -> ImageRef:
    if is_base64(path):
        if inline is None:
            raise RowProblem(
                "bad_path", f"base64 text ({path[:24]}...) is read from files in the image folder"
            )
        return inline
    try:
        name = relative_path(f"{folder}/{path}" if folder else path, root)
    except PathLeavesRoot as error:
        raise RowProblem("bad_path", str(error)) from error
    return ImageRef(kind="file", path=name)
