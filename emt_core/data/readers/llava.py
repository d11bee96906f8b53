"""LLaVA JSON: one array of any size (streamed), or JSON lines.

    {"id": "000000033471", "image": "coco/train2017/000000033471.jpg",
     "conversations": [{"from": "human", "value": "<image>\\nWhat ..."},
                       {"from": "gpt", "value": "..."}]}

`image` may be absent (text only), a path, or a list of paths; `images` is read as well. Paths are
relative to `image_root`. Ids repeat in real files and are only kept. A row with images and no
`<image>` gets them in front.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from emt_core.data.fingerprint import FileSet
from emt_core.data.paths import PathLeavesRoot, relative_path
from emt_core.data.readers.conversation import RowProblem, build_sample, parse_turns, reject
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
    for row, record in enumerate(stream_rows(data)):
        own_id = record.get("id") if isinstance(record, Mapping) else None
        try:
            yield _sample(source, root, row, record)
        except RowProblem as problem:
            yield reject(source.name, row, problem, own_id)


def _sample(source: LlavaSource, root: Path, row: int, record: Any) -> Sample:
    if isinstance(record, BrokenLine):
        raise RowProblem("unreadable_row", record.detail)
    if not isinstance(record, Mapping):
        raise RowProblem("unreadable_row", f"a row is an object, not {type(record).__name__}")
    paths = record.get("image", record.get("images"))
    return build_sample(
        source=source.name,
        row=row,
        role=source.role,
        turns=parse_turns(record.get("conversations", record.get("messages"))),
        images=file_refs(paths, root),
        missing="lead",
        own_id=record.get("id"),
        meta={
            k: v
            for k, v in record.items()
            if k not in ("id", "image", "images", "conversations", "messages")
        },
    )


def file_refs(paths: Any, root: Path, folder: str = "") -> tuple[ImageRef, ...]:
    """Image files of None, a path or several. Raises RowProblem: bad_path, unreadable_row."""
    if paths is None or paths == "":
        return ()
    listed = [paths] if isinstance(paths, str) else paths
    if not isinstance(listed, list | tuple) or not all(isinstance(path, str) for path in listed):
        raise RowProblem(
            "unreadable_row", f"images are a path or a list of paths, not {str(paths)[:60]!r}"
        )
    refs = []
    for path in listed:
        try:
            refs.append(
                ImageRef(
                    kind="file", path=relative_path(f"{folder}/{path}" if folder else path, root)
                )
            )
        except PathLeavesRoot as error:
            raise RowProblem("bad_path", str(error)) from error
    return tuple(refs)
