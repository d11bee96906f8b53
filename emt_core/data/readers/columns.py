"""Rows of a table (parquet, HF datasets) to samples, by the source's column names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import compute

from emt_core.data.images.base64_text import is_base64
from emt_core.data.paths import PathLeavesRoot, relative_path
from emt_core.data.readers.conversation import (
    RowProblem,
    build_sample,
    chosen,
    parse_turns,
    qa_turns,
    reject,
)
from emt_core.data.sample import ImageRef, RefKind, Reject, Sample, Turn
from emt_core.errors import EmtError
from emt_core.recipe.sources import ColumnsMixin, HFSource, ParquetSource

pc: Any = compute  # its functions are made at run time: no type checker knows them
TableSource: TypeAlias = HFSource | ParquetSource
DEFAULT_CONVERSATIONS = ("conversations", "messages")
ImageCell: TypeAlias = tuple[int, str | None]
"""(position in the cell, path of a file; None where the bytes lie in the cell itself)."""


def wanted_columns(source: TableSource, present: Sequence[str], where: object) -> list[str]:
    """The text columns to read. Raises EmtError where the table lacks one that the source names."""
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
        found = next((name for name in DEFAULT_CONVERSATIONS if name in present), None)
        if found is None:
            raise EmtError(
                f"source {source.name!r} says no column with text",
                where=where,
                remedy="give conversations, question (+ answer) or text; columns: "
                f"{', '.join(present)}",
            )
        named.append(found)
    columns = list(dict.fromkeys(name for name in named if name))
    lacking = [name for name in (*columns, source.images) if name and name not in present]
    if lacking:
        raise EmtError(
            f"source {source.name!r}: there is no column {lacking[0]!r}",
            where=where,
            remedy=f"its columns are: {', '.join(present)}",
        )
    return columns


def read_batch(
    source: TableSource,
    texts: pa.RecordBatch,
    images: pa.Array | None,
    *,
    row: int,
    place: tuple[RefKind, str, int],
    root: Path,
) -> Iterator[Sample | Reject]:
    """Rows of one batch. row: source row of its first; place: (kind, file, row) of images."""
    cells = image_cells(images, place[1]) if images is not None else [()] * texts.num_rows
    kind, path, at = place
    for number, record in enumerate(texts.to_pylist()):
        ref = ImageRef(kind=kind, path=path, member=source.images or "", index=at + number)
        yield read_row(source, record, cells[number], ref, row=row + number, root=root)


def read_row(
    source: TableSource,
    record: Mapping[str, Any],
    cells: Sequence[ImageCell],
    ref: ImageRef,
    *,
    row: int,
    root: Path,
) -> Sample | Reject:
    """One row; ref: the place of an image that lies in the row itself."""
    own_id = record.get(source.own_id) if source.own_id else None
    try:
        if source.text and source.images and not cells:
            raise RowProblem("missing_image", "a caption whose image is missing (null)")
        return build_sample(
            source=source.name,
            row=row,
            role=source.role,
            turns=row_turns(source, record),
            images=[_image_ref(cell, ref, root) for cell in cells],
            missing="lead",
            own_id=own_id,
            meta={name: record[name] for name in source.meta},
        )
    except RowProblem as problem:
        return reject(source.name, row, problem, own_id)


def text_fields(source: ColumnsMixin) -> tuple[str, ...]:
    """Names of the fields that hold a row's text, whichever of them it has."""
    named = (source.conversations, source.question, source.choices, source.answer, source.text)
    given = tuple(name for name in named if name)
    return given or DEFAULT_CONVERSATIONS


def row_turns(source: ColumnsMixin, record: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The turns of a row, by the source's column names. Raises RowProblem."""
    if source.text is not None:
        return qa_turns("", _field(record, source.text) or "")
    if source.question is not None:
        question = _field(record, source.question)
        answer = _field(record, source.answer) if source.answer else None
        if source.choices is not None:
            question, answer = chosen(question, _field(record, source.choices), answer)
        return qa_turns(question, answer)
    names = (source.conversations,) if source.conversations else DEFAULT_CONVERSATIONS
    name = next((name for name in names if record.get(name) is not None), None)
    if name is None:
        raise RowProblem(
            "unreadable_row",
            f"the row has no {' or '.join(names)}; it has {', '.join(list(record)[:10])}; "
            "say which field holds its text: conversations, question (and answer) or text",
        )
    raw = record[name]
    if isinstance(raw, Mapping) and all(isinstance(values, list) for values in raw.values()):
        # HF's Sequence of a struct is stored as a struct of lists
        raw = [dict(zip(raw, turn, strict=False)) for turn in zip(*raw.values(), strict=False)]
    return parse_turns(raw)


def _field(record: Mapping[str, Any], name: str) -> Any:
    if name not in record:
        raise RowProblem(
            "unreadable_row", f"the row has no {name!r}; it has {', '.join(list(record)[:10])}"
        )
    return record[name]


def _image_ref(cell: ImageCell, ref: ImageRef, root: Path) -> ImageRef:
    position, path = cell
    if path is None or is_base64(path):
        return ImageRef(
            kind=ref.kind, path=ref.path, member=ref.member, index=ref.index, position=position
        )
    try:
        return ImageRef(kind="file", path=relative_path(path, root))
    except PathLeavesRoot as error:
        raise RowProblem("bad_path", str(error)) from error


def holds_paths(kind: pa.DataType) -> bool:
    """Whether an image column of this type names files instead of holding them."""
    kind = kind.value_type if _is_list(kind) else kind
    return _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def image_cells(column: pa.Array, where: object) -> list[list[ImageCell]]:
    """The images of each row of an image column; of bytes only whether they are there is read.

    Column types: struct {bytes, path}, struct {path} (bytes left out by projection), binary,
    string, or lists of these.
    """
    if _is_list(column.type):
        flat = _flat_cells(column.flatten(), where)
        lengths = [length or 0 for length in pc.list_value_length(column).to_pylist()]
        rows = []
        at = 0
        for length in lengths:
            part = flat[at : at + length]
            rows.append([(position, path) for position, (there, path) in enumerate(part) if there])
            at += length
        return rows
    return [[(0, path)] if there else [] for there, path in _flat_cells(column, where)]


def _flat_cells(column: pa.Array, where: object) -> list[tuple[bool, str | None]]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        paths = (
            pc.struct_field(column, "path").to_pylist() if "path" in names else [None] * len(column)
        )
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
        return [(bool(path), path) for path in column.to_pylist()]
    if pa.types.is_null(kind):
        return [(False, None)] * len(column)
    raise EmtError(
        f"the image column has type {kind}",
        where=where,
        remedy="it must be bytes, a path, or {bytes, path}",
    )
