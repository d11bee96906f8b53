"""General samples for mid-training's replay: pool rows that a selection leaves out."""

from __future__ import annotations

import numpy as np

from emt_core.data.draws import Purpose, ordered_rows, random_keys
from emt_core.selection.candidates import could_be_selected
from emt_core.workspace.table import Table


def left_out(selection: Table, count: int, seed: int) -> np.ndarray:
    """int64: `count` rows, or all, drawn uniformly of those that could have been selected.

    selection: of a select artifact. Rows that no selection may take (robot data, flagged ones, ones
    without a vector) are not among them. Memory is bounded by `count`, not by the pool.
    """
    best = np.empty(0, np.uint64)
    at = 0
    for batch in selection.scan(["reason"]):
        reasons = batch.column(0).dictionary_encode()
        names = reasons.dictionary.to_numpy(zero_copy_only=False)
        code = reasons.indices.to_numpy()
        free = could_be_selected(code, names) & (names != "")[code]
        rows = at + np.flatnonzero(free)
        best = np.concatenate([best, random_keys(seed, rows, Purpose.REPLAY)])
        if len(best) > count:
            best = np.partition(best, count - 1)[:count]
        at += batch.num_rows
    return ordered_rows(best)
