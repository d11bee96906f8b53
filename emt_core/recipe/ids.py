"""Many sample ids in little text: `web:3,7,10-19` names rows 3, 7 and 10 to 19 of the source `web`.

A recipe that leaves out a region of the map names thousands of rows. One line a source keeps it
short and quick to load, and no other file is needed to know which samples are meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from emt_core.errors import EmtError

PART = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


@dataclass(frozen=True)
class IdRanges:
    """Rows of one source, as given: inclusive, in no particular order."""

    source: str
    first: np.ndarray
    """int64 [parts]."""

    last: np.ndarray
    """int64 [parts]; equal to `first` for a single row."""


def parse_ids(entry: str) -> IdRanges:
    """`source:row` or `source:row,first-last,...`. Raises EmtError where it is neither."""
    source, _, numbers = entry.rpartition(":")
    parts = [PART.fullmatch(part.strip()) for part in numbers.split(",")]
    if not source or not all(parts):
        raise EmtError(
            f"{_short(entry)} names no sample",
            remedy="an id is `source:row`; several are `source:3,7,10-19`",
        )
    found = [(int(part[1]), int(part[2] or part[1])) for part in parts if part is not None]
    backwards = next((pair for pair in found if pair[0] > pair[1]), None)
    if backwards is not None:
        raise EmtError(
            f"{_short(entry)}: {backwards[0]}-{backwards[1]} runs backwards",
            remedy="write first-last",
        )
    bounds = np.array(found, np.int64)
    return IdRanges(source, bounds[:, 0], bounds[:, 1])


def format_ids(source: str, rows: np.ndarray, *, after: np.ndarray) -> str:
    """`web:3,7,10-19` from rows of one source, rising (int64).

    after: bool, whether a row directly follows the one before it in the index. Rejected rows are
    not in the index, so 4 may directly follow 2: then `2-4` names both and nothing else."""
    starts = np.flatnonzero(~after)
    stops = np.append(starts[1:], len(rows)) - 1
    parts = [
        str(low) if low == high else f"{low}-{high}"
        for low, high in zip(rows[starts].tolist(), rows[stops].tolist(), strict=True)
    ]
    return f"{source}:{','.join(parts)}"


def _short(entry: str) -> str:
    return repr(entry if len(entry) <= 60 else entry[:57] + "...")
