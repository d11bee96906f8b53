"""Narrow per-sample columns as arrays: what filters, counts and figures work on. Vectors and text never come here.

Ten bytes or so a sample: a pool of 10 M takes about 0.2 GB with everything loaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from emt_core.data.draws import falling_keys, ordered_rows
from emt_core.selection.category import CATEGORIES
from emt_core.workspace.artifact import Artifact
from emt_core.workspace.table import Coded, Table, coded_column


def logits(score: Artifact) -> np.ndarray:
    """float32 [rows]; NaN where a sample has no vector."""
    return Table(score.data / "scores.lance").column("logit").astype(np.float32, copy=False)


def rank_order(logit: np.ndarray, candidates: np.ndarray | bool = True) -> np.ndarray:
    """int64: rows of finite logit among `candidates` (bool [rows]), best first, ties by row (as `select` ranks).

    logit: float32 [rows].
    """
    rows = np.flatnonzero(candidates & np.isfinite(logit))
    return ordered_rows(falling_keys(logit[rows], rows))


def categories(category: Artifact) -> Coded:
    """Codes into the known categories, in display order, then whatever else the table names."""
    return coded_column(
        Table(category.data / "category.lance"), "category", first=tuple(CATEGORIES)
    )


def reasons(select: Artifact) -> Coded:
    """Why each row is left out; code 0 is "" (selected)."""
    return coded_column(Table(select.data / "selection.lance"), "reason", first=("",))


def map_points(gap: Artifact) -> tuple[np.ndarray, np.ndarray]:
    """float32 x, y [rows]; NaN without a vector."""
    table = Table(gap.data / "map.lance")
    return table.column("x").astype(np.float32, copy=False), table.column("y").astype(
        np.float32, copy=False
    )


def parquet_frame(path: Path) -> pa.Table:
    from pyarrow import parquet

    return parquet.read_table(path)
