"""Proximity measures: one file each. Every score is float32 and higher means nearer to the robot data.

`measure_of(kind)` gives the module of a measure, which holds (the protocol, `base.Measure`):

    LOGIT: bool                        whether the score is the log odds of robot against pool
    fit(config, inputs, out) -> dict   learn what is needed from robot and pool data, write it into `out`; figures of it
    scores(config, inputs, fitted, start) -> Iterator[(first row, float32 scores)]
                                       rows [start, end) of the index in order; NaN where a row has no score

A row's score depends on the row and on what was fitted, never on how rows are cut into batches or commits: to the last
bit for measures on features and words; to rounding for those that run a model (perplexities, CLIP), whose padding and
products follow the batch size, or the smaller batch that memory allowed. A resumed run gives the same bits.
The learned linear estimator (method section 4, `learned.py`) is a stage of its own: `estimator`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from emt_core.proximity.base import Measure


def measure_of(kind: str) -> Measure:
    """The module of a measure. Importing it loads no torch."""
    if kind in ("perplexity", "delta_perplexity"):
        module = "emt_core.proximity.perplexity.perplexity"
    else:
        module = f"emt_core.proximity.measures.{kind}"
    return cast("Measure", importlib.import_module(module))
