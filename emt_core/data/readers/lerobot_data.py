"""The data files and videos of a LeRobot set: columns of numbers by file, and a video's rate.

What was read last is kept, so that the episodes of one file cost one read.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emt_core.data.arrow_files import read_table
from emt_core.data.damaged import DAMAGED
from emt_core.data.images.handles import ImageProblem
from emt_core.data.images.video import Video
from emt_core.errors import EmtError

NO_TASK = -1
NARROW = {"episode_index": -1, "timestamp": float("nan"), "task_index": NO_TASK}
"""Column of a data file -> what stands for null."""


@lru_cache(maxsize=4)
def narrow_columns(path: Path, mtime_ns: int) -> dict[str, np.ndarray]:
    """The three number columns of a data file; images and states stay unread."""
    table = read_table(path, list(NARROW))
    return {name: number_column(table, name, path) for name in NARROW}


def number_column(table: pa.Table, name: str, path: Path) -> np.ndarray:
    """int64 or float64 [rows] of a column of NARROW. Raises EmtError where it holds no numbers."""
    kind = pa.float64() if isinstance(NARROW[name], float) else pa.int64()
    column = table.column(name)
    if pa.types.is_fixed_size_list(column.type) and column.type.list_size == 1:
        column = column.combine_chunks().flatten()  # some writers keep numbers as vectors of one
    try:
        return pc.fill_null(pc.cast(column, kind), NARROW[name]).to_numpy()
    except DAMAGED as error:
        raise EmtError(f"column {name!r} holds {column.type}, no numbers", where=path) from error


def number_matrix(table: pa.Table, name: str, where: object = "") -> np.ndarray:
    """float64 [rows, n] of a column of numbers, or of lists of numbers that are all as long.

    Raises EmtError for anything else; a null number is NaN.
    """
    values = table.column(name).combine_chunks()
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    while any(is_list(values.type) for is_list in lists):
        lengths = pc.list_value_length(values)  # pyright: ignore[reportAttributeAccessIssue]
        if values.null_count or len(lengths.unique()) > 1:
            raise EmtError(f"rows of column {name!r} have different lengths", where=where)
        values = values.flatten()
    try:
        flat = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except DAMAGED as error:
        raise EmtError(f"column {name!r} holds {values.type}, no numbers", where=where) from error
    return flat.reshape(len(table), -1) if len(table) else np.empty((0, 0))


@lru_cache(maxsize=8)
def matrix(path: Path, mtime_ns: int, column: str) -> np.ndarray:
    """float64 [rows, n] of a column of a data file. Raises EmtError."""
    return number_matrix(read_table(path, [column]), column, path)


@lru_cache(maxsize=16)
def video_rate(path: Path, mtime_ns: int) -> float | None:
    """Frames a second by the video's header; None where it cannot be opened or says nothing."""
    try:
        video = Video(path)
    except ImageProblem:
        return None  # its rows are rejected by what is wrong with it
    rate = video.stream.average_rate
    video.close()
    return float(rate) if rate else None
