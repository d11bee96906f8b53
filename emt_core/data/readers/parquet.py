"""Parquet: a file, a folder of them, or a pattern such as `data/train-*.parquet`, by name.

Of images {bytes, path} only paths are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pyarrow import parquet

from emt_core.data.arrow_files import open_parquet, parquet_batches
from emt_core.data.file_kind import real_files
from emt_core.data.fingerprint import FileSet
from emt_core.data.paths import existing, name_below
from emt_core.data.readers.columns import (
    check_images_named,
    class_names,
    holds_paths,
    read_batches,
    wanted_columns,
)
from emt_core.data.sample import Reject, Sample
from emt_core.data.splits import check_one_split
from emt_core.errors import EmtError
from emt_core.recipe.sources import ParquetSource

BATCH_ROWS = 1024
BATCH_ROWS_WITH_BYTES = 64


def locate(source: ParquetSource, base: Path) -> Path:
    data = base / Path(source.path).expanduser()
    return data if _is_pattern(data) else existing(data, source.name)


def _is_pattern(data: Path) -> bool:
    return "*" in data.name and not data.exists()


def shards(data: Path) -> list[Path]:
    if _is_pattern(data):
        found = real_files(data.parent.glob(data.name), data.parent)
    else:
        found = real_files(data.rglob("*.parquet"), data) if data.is_dir() else [data]
        check_one_split(found, data if data.is_dir() else data.parent)
    if not found:
        raise EmtError("there is no .parquet file", where=data, remedy="check `path`")
    return found


def loose_images(source: ParquetSource, data: Path) -> bool:
    schema = open_parquet(shards(data)[0]).schema_arrow
    return holds_paths(schema, source.images)


def image_root(source: ParquetSource, data: Path) -> Path:
    folder = data if data.is_dir() else data.parent
    return (folder / (source.image_root or "")).absolute()


def files(source: ParquetSource, data: Path) -> FileSet:
    return FileSet(base=data if data.is_dir() else data.parent, bulk=tuple(shards(data)))


def count(source: ParquetSource, data: Path) -> int | None:
    return sum(open_parquet(path).metadata.num_rows for path in shards(data))


def read(source: ParquetSource, data: Path) -> Iterator[Sample | Reject]:
    root = image_root(source, data)
    row = 0
    for path in shards(data):
        file = open_parquet(path)
        schema = file.schema_arrow
        texts = wanted_columns(source, schema.names, path)
        check_images_named(source, schema, path)
        leaves = _image_leaves(file, source.images) if source.images else []
        heavy = bool(source.images) and not any(leaf.endswith(".path") for leaf in leaves)
        classes = class_names(schema)
        name = name_below(root, path)
        size = BATCH_ROWS_WITH_BYTES if heavy else BATCH_ROWS
        batches = parquet_batches(file, path, size, [*texts, *leaves])
        row += yield from read_batches(
            source, batches, texts, row=row, kind="parquet", path=name, root=root, classes=classes
        )


def _image_leaves(file: parquet.ParquetFile, column: str) -> list[str]:
    """Stored columns of an image column to read: its paths where it has some, else all of it."""
    under = [file.schema.column(i).path for i in range(len(file.schema))]
    under = [path for path in under if path.startswith(column + ".")]
    return [path for path in under if path.endswith(".path")] or [column]
