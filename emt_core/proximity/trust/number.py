"""A figure with its meaning: what is good, and what to do when it is not."""

from __future__ import annotations

import math
from typing import Any, Literal

Verdict = Literal["good", "look", "bad", "unknown"]


def numbered(
    label: str,
    value: float | None,
    sentence: str,
    *,
    good: float | None = None,
    bad: float | None = None,
    form: Literal["decimal", "share", "whole"] = "decimal",
) -> dict[str, Any]:
    """JSON of a figure with its verdict.

    sentence: what is good and what to do when it is not, in one sentence for readers who know no
    statistics. At or beyond `good` it is good, at or beyond `bad` bad, between them worth a look;
    whichever is larger says which way is up. Without them there is no verdict.
    """
    value = None if value is None or not math.isfinite(value) else float(value)
    verdict: Verdict = "unknown"
    if value is not None and good is not None and bad is not None:
        up = good > bad
        is_good, is_bad = (value >= good, value <= bad) if up else (value <= good, value >= bad)
        verdict = "good" if is_good else "bad" if is_bad else "look"
    return {"label": label, "value": value, "form": form, "verdict": verdict, "sentence": sentence}
