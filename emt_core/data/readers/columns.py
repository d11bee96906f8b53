"""Rows of a table (parquet, HF datasets) to samples, by the source's column names."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import compute

from emt_core.data.arrow_files import each_row
from emt_core.data.images.base64_text import is_base64
from emt_core.data.json_rows import parse_json
from emt_core.data.readers.conversation import RowProblem, build_sample, reject, sample_or_reject
from emt_core.data.readers.fields import (
    ASKED,
    CONVERSATIONS,
    IMAGES,
    MARKS,
    QUESTIONS,
    REJECTED,
    UNREAD,
    file_refs,
    refuse,
    row_images,
    row_turns,
    text_fields,
)
from emt_core.data.sample import ImageRef, RefKind, Reject, Sample
from emt_core.errors import EmtError
from emt_core.recipe.sources import TableSource

pc: Any = compute  # its functions are made at run time: no type checker knows them
ImageCell: TypeAlias = tuple[int, str | None]
"""(position in the cell, path of a file; None where the bytes lie in the cell itself)."""


def wanted_columns(source: TableSource, present: Sequence[str], where: object) -> list[str]:
    """The text columns to read. Raises EmtError where the table lacks one that the source names, or
    has one twice."""
    named = [
        source.conversations,
        source.question,
        source.choices,
        source.answer,
        source.text,
        source.own_id,
        *source.meta,
    ]
    if not (source.conversations or source.question or source.text):
        known = [name for name in (*CONVERSATIONS, *QUESTIONS) if name in present]
        known += [name for name in ASKED if known and name in present]
        if not known:
            raise EmtError(
                f"source {source.name!r} says no column with text",
                where=where,
                remedy="give conversations, question (+ answer) or text; columns: "
                f"{', '.join(present)}",
            )
        named += known
    columns = list(dict.fromkeys(name for name in named if name))
    lacking = [name for name in (*columns, source.images) if name and name not in present]
    if lacking:
        raise EmtError(
            f"source {source.name!r}: there is no column {lacking[0]!r}",
            where=where,
            remedy=f"its columns are: {', '.join(present)}",
        )
    columns += [
        name for name in (*UNREAD, *REJECTED, *MARKS) if name in present and name not in columns
    ]
    twice = [name for name in (*columns, source.images) if name and present.count(name) > 1]
    if twice:
        raise EmtError(
            f"source {source.name!r}: the table has two columns {twice[0]!r}",
            where=where,
            remedy="rename one of them",
        )
    return columns


def check_images_named(source: TableSource, schema: pa.Schema, where: object) -> None:
    """Raises EmtError where a column holds images and `images` names none.

    Rows would silently be text only. `images: ""` says that this is meant.
    """
    if source.images is not None:
        return
    known = (source.question, source.answer, source.text, source.own_id, *source.meta)
    found = [f.name for f in schema if f.name not in known and _holds_images(f)]
    if found:
        raise EmtError(
            f"source {source.name!r}: the column {found[0]!r} holds images and no setting names it",
            where=where,
            remedy=f'`images: {found[0]}` reads them, `images: ""` reads the rows without',
        )


def _holds_images(field: pa.Field) -> bool:
    kind = field.type.value_type if _is_list(field.type) else field.type
    names = [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    return (field.name in IMAGES and not pa.types.is_null(kind)) or {"bytes", "path"} <= set(names)


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Names of the classes of each ClassLabel column, as HF datasets keeps them in a schema."""
    try:
        kept = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = kept.get("info", {}).get("features", {}).items()
        return {n: f["names"] for n, f in features if f.get("_type") == "ClassLabel"}
    except (ValueError, AttributeError, KeyError):
        return {}


def read_batches(
    source: TableSource,
    batches: Iterable[pa.RecordBatch],
    texts: Sequence[str],
    *,
    row: int,
    kind: RefKind,
    path: str,
    root: Path,
    classes: Mapping[str, Sequence[str]],
) -> Generator[Sample | Reject, None, int]:
    """Rows of a file, batch by batch; returns how many.

    texts: columns. row: source row of the file's first. kind, path: of its images' references; a
    path of "" is none in reach. classes: of `class_names`.
    """
    at = 0
    for batch in batches:
        place = (kind, path, at)
        yield from _read_batch(
            source, batch, texts, row=row + at, place=place, root=root, classes=classes
        )
        at += batch.num_rows
    return at


def _read_batch(
    source: TableSource,
    batch: pa.RecordBatch,
    texts: Sequence[str],
    *,
    row: int,
    place: tuple[RefKind, str, int],
    root: Path,
    classes: Mapping[str, Sequence[str]],
) -> Iterator[Sample | Reject]:
    """place: (kind, file, row) of images."""
    kind, path, at = place

    def values(part: pa.RecordBatch) -> list[tuple[dict[str, Any], Sequence[ImageCell]]]:
        cells: Sequence[Sequence[ImageCell]] = [()] * part.num_rows
        if source.images:
            column = part.column(source.images)
            cells = image_cells(column, root / path, paths_first=source.image_root is not None)
        return list(zip(part.select(texts).to_pylist(), cells, strict=True))

    wanted = batch.select([*texts, *([source.images] if source.images else [])])
    for number, found in enumerate(each_row(wanted, values, unseen=kind == "arrow")):
        if isinstance(found, str):
            yield reject(source.name, row + number, RowProblem("unreadable_row", found))
            continue
        record, cells = found
        ref = ImageRef(kind=kind, path=path, member=source.images or "", index=at + number)
        name_classes(record, classes)
        own_id = record.get(source.own_id) if source.own_id else None
        make = partial(table_sample, source, record, cells, ref, row=row + number, root=root)
        yield sample_or_reject(source.name, row + number, own_id, make)


def name_classes(record: dict[str, Any], classes: Mapping[str, Sequence[str]]) -> None:
    """Put a class's name in place of its number; -1 is no class."""
    for column, names in classes.items():
        if isinstance(number := record.get(column), int):
            record[column] = names[number] if 0 <= number < len(names) else None


def table_sample(
    source: TableSource,
    record: Mapping[str, Any],
    cells: Sequence[ImageCell],
    ref: ImageRef,
    *,
    row: int,
    root: Path,
) -> Sample:
    """Raises RowProblem. ref: the place of an image that lies in the row itself."""
    refuse(record, (*text_fields(source), *source.meta))
    if source.text and source.images and not cells:
        raise RowProblem("missing_image", "a caption whose image is missing (null)")
    turns = row_turns(source, record)
    images = [image for cell in cells for image in _image_refs(cell, ref, root)]
    if source.images is None and ref.kind != "stream":
        turns, images = row_images(source, record, turns, root, inline=ref if ref.path else None)
    return build_sample(
        source=source.name,
        row=row,
        role=source.role,
        turns=turns,
        images=images,
        missing="lead",
        own_id=record.get(source.own_id) if source.own_id else None,
        meta={name: record[name] for name in source.meta},
    )


def _image_refs(cell: ImageCell, ref: ImageRef, root: Path) -> tuple[ImageRef, ...]:
    position, path = cell
    if path is not None:
        return file_refs(path, root)
    if not ref.path:
        raise RowProblem("bad_path", "image bytes are read from files in the folder `image_root`")
    return (replace(ref, position=position),)


def holds_paths(schema: pa.Schema, column: str | None) -> bool:
    """Whether an image column names files instead of holding them; not where it is there twice."""
    kinds = [field.type for field in schema if field.name == column]
    if len(kinds) != 1:
        return False
    kind = kinds[0].value_type if _is_list(kinds[0]) else kinds[0]
    return _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def image_cells(
    column: pa.Array, where: object, *, paths_first: bool = False
) -> list[list[ImageCell]]:
    """The images of each row of an image column; of bytes only whether they are there is read.

    Column types: struct {bytes, path}, struct {path} (bytes left out by projection), binary,
    string (a path or base64 text), or lists of these. paths_first: a path is taken where bytes may
    lie beside it.
    """
    if _is_list(column.type):
        flat = _flat_cells(column.flatten(), where, paths_first)
        lengths = [length or 0 for length in pc.list_value_length(column).to_pylist()]
        rows = []
        at = 0
        for length in lengths:
            part = flat[at : at + length]
            rows.append([(position, path) for position, (there, path) in enumerate(part) if there])
            at += length
        return rows
    return [[(0, path)] if there else [] for there, path in _flat_cells(column, where, paths_first)]


def _flat_cells(
    column: pa.Array, where: object, paths_first: bool
) -> list[tuple[bool, str | None]]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        paths = (
            pc.struct_field(column, "path").to_pylist() if "path" in names else [None] * len(column)
        )
        if paths_first and "path" in names:
            return [(bool(path), path) for path in paths]
        if "bytes" in names:
            embedded = pc.struct_field(column, "bytes").is_valid().to_pylist()
        elif "path" in names:
            return [(there, None) for there in column.is_valid().to_pylist()]
        else:
            raise EmtError(
                f"the image column is a struct of {names}",
                where=where,
                remedy="it needs bytes or path",
            )
        return [
            (here or bool(path), None if here else path)
            for here, path in zip(embedded, paths, strict=True)
        ]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [(there, None) for there in column.is_valid().to_pylist()]
    if _is_text(kind):
        texts = column.to_pylist()
        return [(bool(text), None if text and is_base64(text) else text) for text in texts]
    if pa.types.is_null(kind):
        return [(False, None)] * len(column)
    raise EmtError(
        f"the image column has type {kind}",
        where=where,
        remedy="it must be bytes, a path, or {bytes, path}",
    )
