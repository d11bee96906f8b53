"""Many sample ids in little text: `web:3,7,10-19` names rows 3, 7 and 10 to 19 of the source `web`.

A recipe that leaves out a region of the map names thousands of rows. One line a source keeps it
short and quick to load, and no other file is needed to know which samples are meant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emt_core.errors import EmtError
from emt_core.recipe.ranges import format_ranges, parse_ranges

AN_ID = "an id is `source:row`; several are `source:3,7,10-19`"


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
    try:
        found = parse_ranges(numbers.split(",")) if source else []
    except ValueError as error:
        raise EmtError(f"{_short(entry)} names no sample: {error}", remedy=AN_ID) from error
    if not found:
        raise EmtError(f"{_short(entry)} names no sample", remedy=AN_ID)
    bounds = np.array(found, np.int64)
    return IdRanges(source, bounds[:, 0], bounds[:, 1])


def format_ids(source: str, rows: np.ndarray, *, after: np.ndarray) -> str:
    """`web:3,7,10-19` from rows of one source, rising (int64).

    after: bool, whether a row directly follows the one before it in the index. Rejected rows are
    not in the index, so 4 may directly follow 2: then `2-4` names both and nothing else."""
    return f"{source}:{format_ranges(rows, after)}"


def _short(entry: str) -> str:
    return repr(entry if len(entry) <= 60 else entry[:57] + "...")
