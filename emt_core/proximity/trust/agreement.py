"""Agreement between measures: do others rank the pool alike, and where do they differ most?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from emt_core.proximity.metrics.rank_agreement import mean_ranks, overlap_at, share_of, spearman
from emt_core.proximity.trust.number import numbered


def agreement(
    scores: Mapping[str, np.ndarray], rows: np.ndarray, *, top_share: float, shown: int
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """(section, table of disagreements: row measure percentile other_percentile higher).

    scores: name -> float32 [rows], the score in question first; rows: their index rows. All finite.
    """
    names = list(scores)
    k = share_of(top_share, len(rows))
    rank = [[spearman(scores[a], scores[b]) for b in names] for a in names]
    overlap = [[overlap_at(scores[a], scores[b], k) for b in names] for a in names]
    percentile = {
        name: mean_ranks(values) / max(len(rows) - 1, 1) for name, values in scores.items()
    }
    table: dict[str, list[Any]] = {
        name: [] for name in ("row", "measure", "percentile", "other_percentile", "higher")
    }
    for name in names[1:]:
        apart = percentile[names[0]] - percentile[name]
        order = np.lexsort((rows, apart))
        for places, higher in ((order[: -shown - 1 : -1], True), (order[:shown], False)):
            for place in places:
                if (apart[place] > 0) == higher and apart[place] != 0:
                    mine = float(percentile[names[0]][place])
                    other = float(percentile[name][place])
                    row = (int(rows[place]), name, mine, other, higher)
                    for column, value in zip(table.values(), row, strict=True):
                        column.append(value)
    pairs = zip(names[1:], rank[0][1:], strict=True)
    numbers = [numbered("agreement", value, name=name) for name, value in pairs]
    section = {
        "title": "Agreement between measures",
        "question": "Do other measures find the same samples near?",
        "numbers": numbers,
        "measures": names,
        "spearman": rank,
        "overlap": overlap,
        "rows": len(rows),
        "k": k,
        "chance": k / max(len(rows), 1),
    }
    return section, table
