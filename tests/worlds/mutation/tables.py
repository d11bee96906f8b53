"""Damaged Arrow tables: one cell, one column, the schema; and the ways to write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mutation.images import any_image, bad_image
from mutation.values import HOSTILE, NAMES, RAW, mutated, odd


@dataclass(frozen=True)
class Change:
    """What was done to a table. touched: rows whose content may differ; None: any."""

    did: str
    table: pa.Table
    touched: frozenset[int] | None


def changed(table: pa.Table, rng: Random, keep: tuple[str, ...] = ()) -> Change:
    """One cell, one column or the schema changed; the number of rows stays.

    keep: columns that stay as they are.
    """
    names = [name for name in table.column_names if name not in keep]
    kind = rng.random()
    name = rng.choice(names)
    if kind < 0.45:
        return _cell(table, name, rng)
    if kind < 0.9:
        return _column(table, name, rng)
    return _schema(table, rng)


def _plain(value: Any) -> Any:
    """A value that Arrow can be made of: what stands for raw JSON becomes that text."""
    if isinstance(value, str):
        return RAW.get(value, value).encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {str(_plain(k)): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _cell(table: pa.Table, name: str, rng: Random) -> Change:
    """One cell with another value, of the column's type where Arrow takes it."""
    row = rng.randrange(len(table))
    column = table.column(name)
    cells = column.to_pylist()
    old = cells[row]
    kind = column.type
    if pa.types.is_struct(kind) and "bytes" in [kind.field(i).name for i in range(kind.num_fields)]:
        new: Any = rng.choice(
            [
                None,
                {"bytes": None, "path": None},
                {"bytes": bad_image(rng), "path": None},
                {"bytes": any_image(rng), "path": rng.choice(HOSTILE[:30])},
                {"bytes": None, "path": rng.choice(HOSTILE[:30])},
                {"bytes": b"", "path": ""},
            ]
        )
    elif pa.types.is_binary(kind):
        new = rng.choice([None, b"", bad_image(rng), any_image(rng)])
    elif pa.types.is_floating(kind):
        new = rng.choice([None, float("nan"), float("inf"), -1e308, 0.0, 1e18])
    elif pa.types.is_integer(kind):
        new = rng.choice([None, -1, 0, 2**31, 2**63 - 1, -(2**63)])
    else:
        new = mutated(old, rng)
    for value in (_plain(new), str(_plain(new)), None):
        cells[row] = value
        try:
            made = pa.array(cells, kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue
        return Change(f"{name}: a cell", _with(table, name, made), frozenset([row]))
    raise AssertionError("a null fits into every column")


def _with(table: pa.Table, name: str, made: Any, called: str | None = None) -> pa.Table:
    return table.set_column(table.column_names.index(name), called or name, made)


def _column(table: pa.Table, name: str, rng: Random) -> Change:
    """A column of another type, of nulls, nested, doubled, renamed or gone."""
    column = table.column(name)
    count = len(table)
    place = table.column_names.index(name)
    what = rng.choice(sorted(COLUMN_CHANGES))
    if what == "gone":
        return Change(f"{name}: gone", table.remove_column(place), None)
    if what == "renamed":
        other = rng.choice([*NAMES, *HOSTILE[:9], *table.column_names]).encode("utf-8", "replace")
        return Change(f"{name}: renamed", _with(table, name, column, other.decode()), None)
    if what == "doubled":
        return Change(f"{name}: twice", table.append_column(name, column), None)
    if what == "added":
        other = rng.choice(NAMES)
        values = [_plain(odd(rng))] * count
        try:
            made = pa.array(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            made = pa.array([str(value) for value in values])
        return Change(f"{other}: added", table.append_column(other, made), None)
    try:
        made = COLUMN_CHANGES[what](column.combine_chunks(), rng)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, NotImplementedError):
        made = pa.nulls(count)
        what = "null"
    return Change(f"{name}: {what}", _with(table, name, made), None)


def _not_utf8(column: Any, rng: Random) -> Any:
    """Text whose bytes are no UTF-8, which Arrow takes unseen."""
    texts = [str(value).encode() + b"\xff\xc3\x28" for value in column.to_pylist()]
    return pa.Array.from_buffers(pa.string(), len(texts), pa.array(texts, pa.binary()).buffers())


def _as(kind: Callable[[], pa.DataType]) -> Callable[[Any, Random], Any]:
    return lambda column, rng: pc.cast(column, kind())


def _listed(column: Any, rng: Random) -> Any:
    offsets = pa.array(range(len(column) + 1), pa.int32())
    return pa.ListArray.from_arrays(offsets, column)


COLUMN_CHANGES: dict[str, Callable[[Any, Random], Any]] = {
    **{name: lambda column, rng: column for name in ("gone", "renamed", "doubled", "added")},
    "null": lambda column, rng: pa.nulls(len(column)),
    "all null": lambda column, rng: pa.nulls(len(column), column.type),
    "text": lambda column, rng: pa.array([str(v)[:100] for v in column.to_pylist()]),
    "JSON": lambda column, rng: pa.array([json.dumps(str(v)[:100]) for v in column.to_pylist()]),
    "large text": _as(pa.large_string),
    "text view": _as(pa.string_view),
    "bytes": _as(pa.binary),
    "large bytes": _as(pa.large_binary),
    "bytes view": _as(pa.binary_view),
    "not UTF-8": _not_utf8,
    "numbers": lambda column, rng: pa.array(range(len(column)), pa.int64()),
    "floats": lambda column, rng: pa.array([float("nan")] * len(column)),
    "tiny numbers": lambda column, rng: pa.array([n % 100 for n in range(len(column))], pa.int8()),
    "flags": lambda column, rng: pa.array([bool(n % 2) for n in range(len(column))]),
    "decimals": lambda column, rng: pc.cast(pa.array(range(len(column))), pa.decimal128(30, 5)),
    "times": lambda column, rng: pa.array([2**62] * len(column), pa.timestamp("s")),
    "days": lambda column, rng: pa.array([2**31 - 1] * len(column), pa.date32()),
    "durations": lambda column, rng: pa.array([2**62] * len(column), pa.duration("ns")),
    "halves": lambda column, rng: pc.cast(pa.array([1.0] * len(column)), pa.float16()),
    "dictionary": lambda column, rng: column.dictionary_encode(),
    "list": _listed,
    "list of lists": lambda column, rng: _listed(_listed(column, rng), rng),
    "fixed list": lambda column, rng: pa.FixedSizeListArray.from_arrays(column, 1),
    "empty lists": lambda column, rng: pa.array([[]] * len(column), pa.list_(column.type)),
    "struct": lambda column, rng: pa.StructArray.from_arrays([column], ["value"]),
    "struct of path": lambda column, rng: pa.StructArray.from_arrays([column], ["path"]),
    "struct of bytes": lambda column, rng: pa.StructArray.from_arrays(
        [column, column], ["bytes", "path"]
    ),
    "empty struct": lambda column, rng: pa.array([{}] * len(column), pa.struct([])),
    "map": lambda column, rng: pa.array(
        [[("image", str(v)[:50])] for v in column.to_pylist()], pa.map_(pa.string(), pa.string())
    ),
    "huge cells": lambda column, rng: pa.array(["x" * 1_000_000] * len(column)),
    "hostile": lambda column, rng: pa.array(
        [_plain(rng.choice(HOSTILE)) for _ in range(len(column))]
    ),
    "turns": lambda column, rng: pa.array(
        [[{"from": rng.choice(["human", "gpt", ""]), "value": "<image>"}]] * len(column)
    ),
}


def _schema(table: pa.Table, rng: Random) -> Change:
    """Other metadata, other order, no column at all."""
    what = rng.randrange(4)
    if what == 0:
        names = table.column_names
        rng.shuffle(names)
        return Change("columns in another order", table.select(names), frozenset())
    if what == 1:
        return Change("no column", table.select([]), None)
    features = {name: {"_type": "ClassLabel", "names": ["a"]} for name in table.column_names}
    texts = [
        b"[",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"info": null}',
        b'{"info": {"features": 3}}',
        b'{"info": {"features": {"q": 1}}}',
        b'{"info": {"features": {"q": {"_type": "ClassLabel"}}}}',
        b'{"info": {"features": {"q": {"_type": "ClassLabel", "names": 3}}}}',
        b'{"info": {"features": {"q": {"_type": "ClassLabel", "names": [[]]}}}}',
        b'{"info": {"features": {"q": {"_type": "NoSuchType"}}}}',
        json.dumps({"info": {"features": features}}).encode(),
    ]
    facts = {b"huggingface": rng.choice(texts), b"pandas": rng.choice(texts)}
    return Change("metadata", table.replace_schema_metadata(facts), None)


def write_parquet(table: pa.Table, path: Path, rng: Random) -> None:
    """With row groups, pages, compression and encodings of any kind."""
    options: dict[str, Any] = {
        "row_group_size": rng.choice([1, 2, 3, 1_000]),
        "compression": rng.choice(["snappy", "none", "zstd", "gzip", "lz4", "brotli"]),
        "use_dictionary": rng.choice([True, False]),
        "data_page_version": rng.choice(["1.0", "2.0"]),
        "data_page_size": rng.choice([64, 1 << 20]),
        "write_statistics": rng.choice([True, False]),
        "store_schema": rng.choice([True, True, False]),
    }
    try:
        pq.write_table(table, path, **options)
    except (pa.ArrowException, ValueError, TypeError, OSError, KeyError):
        pq.write_table(pa.table({"a": pa.nulls(len(table))}), path)


def write_arrow(table: pa.Table, path: Path, rng: Random) -> None:
    """As an IPC stream, as HF datasets saves it, or as an IPC file."""
    stream = rng.random() < 0.8
    options = pa.ipc.IpcWriteOptions(compression=rng.choice([None, None, "lz4", "zstd"]))
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with path.open("wb") as file, make(file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rng.choice([1, 2, 1_000]))


def rows_in(path: Path) -> int | None:
    """Rows that a parquet or arrow file says it has; None where it cannot be opened."""
    try:
        if path.suffix == ".parquet":
            return pq.ParquetFile(path).metadata.num_rows
        with pa.memory_map(str(path)) as file:
            if file.read(6) == b"ARROW1":
                file.seek(0)
                batches = pa.ipc.open_file(file)
                return sum(batches.get_batch(n).num_rows for n in range(batches.num_record_batches))
            file.seek(0)
            return sum(batch.num_rows for batch in pa.ipc.open_stream(file))
    except Exception:  # what a damaged file makes Arrow raise is of no interest here
        return None
