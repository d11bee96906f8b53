"""LLaVA JSON: one array of any size (streamed), or JSON lines.

    {"id": "000000033471", "image": "coco/train2017/000000033471.jpg",
     "conversations": [{"from": "human", "value": "<image>\\nWhat ..."},
                       {"from": "gpt", "value": "..."}]}

`image` may be absent (text only), a path, or a list of paths; `images` is read as well, and so are
the fields of OpenAI's, ms-swift's and the_cauldron's rows (readers/fields.py). Paths are relative
to `image_root`; an image may also stand in the row, as base64. Other names of fields, and rows of a
question with its answer or choices, are said by the source's columns. Ids repeat in real files and
are only kept. A row with images and no `<image>` gets them in front.

A file of InternVL leads to such files, each with a folder of images; both are relative to it, and
their rows follow one another:

    {"boxes": {"root": "img", "annotation": "rows.jsonl", ...}, ...}
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from emt_core.data.fingerprint import FileSet
from emt_core.data.paths import PathLeavesRoot, inside, name_below
from emt_core.data.readers.conversation import (
    build_sample,
    sample_or_reject,
    shown,
    unmarked,
)
from emt_core.data.readers.fields import IMAGES, refuse, row_images, row_turns, text_fields
from emt_core.data.readers.json_stream import id_in, object_of, small_object, stream_rows
from emt_core.data.sample import ImageRef, Reject, Sample
from emt_core.errors import EmtError
from emt_core.recipe.sources import LlavaSource


def loose_images(source: LlavaSource, data: Path) -> bool:
    return True


def image_root(source: LlavaSource, data: Path) -> Path:
    return (data.parent / source.image_root).absolute()


def files(source: LlavaSource, data: Path) -> FileSet:
    listed = tuple(path for path, _ in _annotations(data) if path != data)
    return FileSet(base=data.parent, index=(data, *listed))


def count(source: LlavaSource, data: Path) -> int | None:
    return None  # only known when the file has been read


def _annotations(data: Path) -> list[tuple[Path, str]]:
    """(file of rows, folder of its images): the file itself, or those that InternVL's names."""
    listed = small_object(data)
    if not listed or not all(isinstance(e, Mapping) and "annotation" in e for e in listed.values()):
        return [(data, "")]
    found = []
    for name, entry in listed.items():
        try:
            path = inside(data.parent, str(entry["annotation"]))
            there = stat.S_ISREG(path.stat().st_mode)
        except (OSError, PathLeavesRoot):
            there = False
        if not there:
            raise EmtError(
                f"the annotation file of {shown(name)} is missing: {shown(entry['annotation'])}",
                where=data,
                remedy="paths are relative to this file's folder, and lie below it",
            )
        found.append((path, str(entry.get("root") or "")))
    return found


def read(source: LlavaSource, data: Path) -> Iterator[Sample | Reject]:
    """Samples and rejects in the file's row order. Raises EmtError where the file breaks off."""
    root = image_root(source, data)
    own_id = source.own_id or "id"
    row = 0
    for path, folder in _annotations(data):
        name = name_below(root, path)
        for at, record in stream_rows(path):
            place = ImageRef(kind="json", path=name, index=at) if name else None
            make = partial(_sample, source, root, row, record, folder, place)
            yield sample_or_reject(source.name, row, id_in(record, own_id), make)
            row += 1


def _sample(
    source: LlavaSource, root: Path, row: int, record: Any, folder: str, inline: ImageRef | None
) -> Sample:
    """folder: of the row's images, below `root`; inline: the place of the row itself."""
    record = object_of(record)
    own_id = source.own_id or "id"
    used = {own_id, source.images, *IMAGES, *text_fields(source)}
    refuse(record, (*used, *source.meta))
    turns = unmarked(row_turns(source, record), source.remove)
    turns, images = row_images(source, record, turns, root, folder=folder, inline=inline)
    return build_sample(
        source=source.name,
        row=row,
        role=source.role,
        turns=turns,
        images=images,
        missing="lead",
        own_id=record.get(own_id),
        meta={
            name: value
            for name, value in record.items()
            if (name in source.meta if source.meta else name not in used)
        },
    )
