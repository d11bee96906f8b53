"""imported: scores that somebody else made, from a file or from the samples' own `meta`.

values.parquet    score float32, row i = index row i (NaN where the file says nothing of a sample)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs
from emt_core.recipe.proximity import ImportedMeasure

LOGIT = False
FILE = "values.parquet"
BLOCK_ROWS = 65_536


def fit(config: ImportedMeasure, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Read the column.

    Raises EmtError where file or column are missing, or where no id is one of the index.
    """
    from pyarrow import parquet

    values = np.full(inputs.index.rows, np.nan, np.float32)
    unknown = 0
    if config.meta:
        _from_meta(values, config.meta, inputs.index)
    else:
        unknown = _from_file(values, config, inputs)
    values[~np.isfinite(values)] = np.nan
    if not np.isfinite(values).any():
        raise EmtError(
            "no sample has an imported score",
            where=config.path or f"meta.{config.meta}",
            remedy="ids are `source:row`, row counted in the source's own order; "
            "scores are finite numbers",
        )
    if config.lower_is_nearer:
        values = -values
    parquet.write_table(pa.table({"score": values}), out / FILE)
    return {"scored": int(np.isfinite(values).sum()), "unknown_ids": unknown}


def scores(
    config: ImportedMeasure, inputs: Inputs, fitted: Path, start: int
) -> Iterator[tuple[int, np.ndarray]]:
    from pyarrow import parquet

    at = 0
    for batch in parquet.ParquetFile(fitted / FILE).iter_batches(BLOCK_ROWS):
        part = batch.column(0).to_numpy(zero_copy_only=False).astype(np.float32)
        if at + len(part) > start:
            skip = max(start - at, 0)
            yield at + skip, part[skip:]
        at += len(part)


def _from_meta(values: np.ndarray, name: str, index: Index) -> None:
    at = 0
    for batch in index.table.scan(["meta"]):
        for meta in batch.column(0).to_pylist():
            value = json.loads(meta).get(name) if meta else None
            if isinstance(value, int | float) and not isinstance(value, bool):
                values[at] = value
            at += 1


def _from_file(values: np.ndarray, config: ImportedMeasure, inputs: Inputs) -> int:
    """Fill in what the file says; returns how many of its ids the index does not have."""
    path = config.file(inputs.base)
    unknown = 0
    known = {
        s.name: inputs.index.table.column("row", start=s.start, stop=s.stop)
        for s in inputs.index.sources
    }
    for ids, column in _batches(path, config):
        named, numbers = _split_ids(pc.cast(ids, pa.string()))
        read = _numbers(column, config)
        left = len(named)
        for source in inputs.index.sources:
            mine, rows = np.flatnonzero(named == source.name), known[source.name]
            if not len(mine) or not len(rows):
                continue
            place = np.minimum(np.searchsorted(rows, numbers[mine]), len(rows) - 1)
            found = rows[place] == numbers[mine]
            values[source.start + place[found]] = read[mine[found]]
            left -= int(found.sum())
        unknown += left
    return unknown


def _split_ids(ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(source names as objects, int64 rows in the source) of ids `source:row`.

    None and -1 where an id has another form.
    """
    names = np.full(len(ids), None, object)
    numbers = np.full(len(ids), -1, np.int64)
    for place, text in enumerate(ids.to_pylist()):
        source, _, row = (text or "").rpartition(":")
        if row.isdecimal() and len(row) <= 18:  # fits int64
            names[place] = source
            numbers[place] = int(row)
    return names, numbers


def _numbers(column: pa.Array, config: ImportedMeasure) -> np.ndarray:
    try:
        return pc.cast(column, pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise EmtError(
            f"column {config.column!r} holds no numbers: {error}",
            where=config.path,
            remedy="set measure.column",
        ) from error


def _batches(path: Path, config: ImportedMeasure) -> Iterator[tuple[pa.Array, pa.Array]]:
    import pyarrow.csv as csv
    from pyarrow import parquet

    wanted = [config.id_column, config.column]
    batches: Any
    try:
        if path.suffix == ".csv":
            batches = csv.open_csv(path)
            names = batches.schema.names
        else:
            file = parquet.ParquetFile(path)
            names = file.schema_arrow.names
            known = [name for name in wanted if name in names]
            batches = file.iter_batches(BLOCK_ROWS, columns=known)
    except (OSError, pa.ArrowInvalid) as error:
        raise EmtError(
            f"the file with scores cannot be read: {error}",
            where=path,
            remedy="give a parquet or CSV file",
        ) from error
    if not set(wanted) <= set(names):
        raise EmtError(
            f"the file with scores lacks {sorted(set(wanted) - set(names))}",
            where=path,
            remedy=f"its columns are {', '.join(names)}: set measure.column and measure.id_column",
        )
    try:
        for batch in batches:
            yield batch.column(config.id_column), batch.column(config.column)
    except pa.ArrowInvalid as error:
        raise EmtError(f"the file with scores is broken: {error}", where=path) from error
