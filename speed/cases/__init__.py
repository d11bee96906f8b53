"""The hot paths that compare.py measures, one file each.

UNIT, ROWS, optional GROWTH     what is counted, and the sizes
prepare(folder, rows)           writes the data; with growth=True in the narrower form of GROWTH
CONTENDERS                      name -> Contender: `ours`, `floor`, and peers
check(said)                     one sentence: whether the contenders agree

A contender is a generator: everything up to its first `yield` is set-up, what comes up to the
second is measured, and that one gives what it says of its result (JSON). Modules import only NumPy
at the top, because peers run in another environment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Steps = Iterator[Any]


@dataclass(frozen=True)
class Contender:
    run: Callable[[Path, int], Steps]
    peer: bool = False
    """Runs in the environment of speed/peers.txt."""

    repeats: int = 9
    """At most: a slow one may run once."""


def chosen(rows: np.ndarray) -> dict[str, float]:
    """What a contender says of the rows that it takes."""
    return {"rows": len(rows), "sum": float(np.asarray(rows, np.float64).sum())}


def agreement(
    found: dict[str, dict[str, float]], figure: str, what: str, *, within: float = 0.0
) -> str:
    """Whether a figure is the same for all contenders that say it. within: relative tolerance."""
    values = [said[figure] for said in found.values() if figure in said]
    if not values or max(values) - min(values) <= within * max(map(abs, values)):
        return f"All agree on {what}."
    return f"THEY DIFFER ON {what.upper()}: {values}"
