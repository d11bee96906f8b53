"""HF datasets: a folder of `save_to_disk` (a set or splits) or a hub name; whole or as a stream.

Saved folders and downloaded sets are read from their memory-mapped arrow shards, so an image is
found by shard and row. A folder holds dataset_dict.json and <split>/..., or the files of a set:
state.json, dataset_info.json, data-*.arrow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from emt_core.data.fingerprint import FileSet
from emt_core.data.images.decode import check_bytes
from emt_core.data.paths import PathLeavesRoot, data_file, name_below
from emt_core.data.readers import hf_stream
from emt_core.data.readers.columns import (
    check_images_named,
    class_names,
    holds_paths,
    name_classes,
    read_batches,
    table_sample,
    wanted_columns,
)
from emt_core.data.readers.conversation import RowProblem, sample_or_reject
from emt_core.data.readers.json_stream import id_in
from emt_core.data.sample import ImageRef, Reject, Sample
from emt_core.errors import EmtError
from emt_core.recipe.sources import HFSource
from emt_core.workspace.files import read_json

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def locate(source: HFSource, base: Path) -> Path:
    """The folder, or the hub name as a relative path."""
    data = base / Path(source.path).expanduser()
    if data.exists():
        return data
    if not HUB_NAME.fullmatch(source.path):
        raise EmtError(
            f"source {source.name!r}: there is no such folder", where=data, remedy="check `path`"
        )
    return Path(source.path)


def on_hub(data: Path) -> bool:
    return not data.is_absolute() and not data.exists()


def loose_images(source: HFSource, data: Path) -> bool:
    if source.streaming or on_hub(data):
        return False
    schema = hf_stream.arrow_table(shards(source, data)[0]).schema
    return holds_paths(schema, source.images)


def image_root(source: HFSource, data: Path) -> Path:
    if source.streaming:
        return data
    if on_hub(data):
        return Path(os.path.commonpath([path.parent for path in shards(source, data)]))
    return (_split_folder(source, data) / (source.image_root or "")).absolute()


def files(source: HFSource, data: Path) -> FileSet:
    if on_hub(data):
        return FileSet(base=Path(), facts=(hf_stream.hub_commit(source),))
    if source.streaming:
        return FileSet(base=data, bulk=tuple(hf_stream.local_files(source, data)))
    folder = _split_folder(source, data)
    index = tuple(
        folder / name for name in ("state.json", "dataset_info.json") if (folder / name).is_file()
    )
    return FileSet(base=folder, index=index, bulk=tuple(shards(source, data)))


def count(source: HFSource, data: Path) -> int | None:
    if source.streaming:
        return None
    return sum(hf_stream.arrow_table(path).num_rows for path in shards(source, data))


def read(source: HFSource, data: Path) -> Iterator[Sample | Reject]:
    if source.streaming:
        yield from _read_stream(source, data)
        return
    root = image_root(source, data)
    row = 0
    for path in shards(source, data):
        table = hf_stream.arrow_table(path)
        texts = wanted_columns(source, table.column_names, path)
        check_images_named(source, table.schema, path)
        classes = class_names(table.schema)
        name = name_below(root, path)
        batches = table.to_batches(max_chunksize=1024)
        row += yield from read_batches(
            source, batches, texts, row=row, kind="arrow", path=name, root=root, classes=classes
        )


def _read_stream(source: HFSource, data: Path) -> Iterator[Sample | Reject]:
    """Samples with `stream` references. Raises EmtError where the stream breaks off."""
    row = 0
    for part in hf_stream.parts(source, data):
        classes = class_names(part.schema)
        wanted_columns(source, part.schema.names, part.where)
        check_images_named(source, part.schema, part.where)
        for record in part.rows:
            own_id = id_in(record, source.own_id) if source.own_id else None
            make = partial(_streamed, source, record, classes, row, data)
            yield sample_or_reject(source.name, row, own_id, make)
            row += 1


def _streamed(
    source: HFSource,
    record: dict[str, Any] | str,
    classes: dict[str, list[str]],
    row: int,
    data: Path,
) -> Sample:
    """record: the row, or what is wrong with it. Raises RowProblem."""
    if isinstance(record, str):
        raise RowProblem("unreadable_row", record)
    name_classes(record, classes)
    images = hf_stream.cells(source, record)
    cells = [(position, None) for position in range(len(images))]
    ref = ImageRef(kind="stream", path=source.path, member=source.images or "", index=row)
    sample = table_sample(source, record, cells, ref, row=row, root=data)
    for content in images:
        problem = ("missing_image", "no bytes in the row")
        if content:
            problem = check_bytes(content, source.max_pixels)
        if problem:
            raise RowProblem(*problem)
    return sample


def shards(source: HFSource, data: Path) -> list[Path]:
    """The arrow files, in row order. Raises EmtError for no saved set or a missing shard."""
    if on_hub(data):
        return _hub_shards(source.path, source.subset, _plain_split(source), source.revision)
    folder = _split_folder(source, data)
    state = read_json(folder / "state.json")
    try:
        found = [folder / data_file(entry["filename"], folder) for entry in state["_data_files"]]
    except (KeyError, TypeError, PathLeavesRoot) as error:
        raise EmtError(
            "state.json does not list the data files", where=folder / "state.json"
        ) from error
    for path in found:
        if not path.is_file():
            raise EmtError("an arrow shard is missing", where=path, remedy="save_to_disk again")
    return found


def _split_folder(source: HFSource, data: Path) -> Path:
    if (data / "state.json").is_file():
        return data
    if (data / "dataset_dict.json").is_file():
        splits = read_json(data / "dataset_dict.json").get("splits", [])
        if source.split in splits and (data / source.split / "state.json").is_file():
            return data / source.split
        raise EmtError(
            f"there is no split {source.split!r}",
            where=data,
            remedy=f"its splits are: {', '.join(splits)}",
        )
    raise EmtError(
        "the folder was not written by save_to_disk",
        where=data,
        remedy="read a folder of .parquet files with format: parquet, or with streaming: true",
    )


def _plain_split(source: HFSource) -> str:
    if not re.fullmatch(r"[\w.-]+", source.split):
        raise EmtError(
            f"split {source.split!r} is a slice",
            where=source.path,
            remedy="name the split; use `limit`",
        )
    return source.split


@lru_cache(maxsize=8)
def _hub_shards(name: str, subset: str | None, split: str, revision: str | None) -> list[Path]:
    import datasets

    try:
        loaded: Any = datasets.load_dataset(name, subset, split=split, revision=revision)
    except Exception as error:  # unreachable, gated, misspelt: dozens of types
        raise EmtError(
            f"the hub set {name!r} cannot be had: {type(error).__name__}: {str(error)[:300]}",
            remedy="check name, subset, split and network; a set on this machine is given by its "
            "folder",
        ) from error
    return [Path(entry["filename"]) for entry in loaded.cache_files]
