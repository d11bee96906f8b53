"""The figures of the trust report, each with its meaning: what is good, and what to do if not.

figures.yaml holds their labels, sentences and bounds.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

Verdict = Literal["good", "look", "bad", "unknown"]


def numbered(figure: str, value: float | None, /, **words: Any) -> dict[str, Any]:
    """JSON of a figure of figures.yaml, with its value and its verdict.

    words: what its label and sentence leave open; also `good` and `bad` where its bounds depend on
    the data.
    """
    entry = {**_figures()[figure], **words}
    value = None if value is None or not math.isfinite(value) else float(value)
    return {
        "label": entry["label"].format(**words),
        "value": value,
        "form": entry.get("form", "decimal"),
        "verdict": verdict_of(value, entry.get("good"), entry.get("bad")),
        "sentence": entry["sentence"].format(**words),
    }


def verdict_of(value: float | None, good: float | None, bad: float | None) -> Verdict:
    """At or beyond `good` good, at or beyond `bad` bad, between them worth a look."""
    if value is None or good is None or bad is None:
        return "unknown"
    sign = 1 if good > bad else -1
    if sign * value >= sign * good:
        return "good"
    return "bad" if sign * value <= sign * bad else "look"


@lru_cache(maxsize=1)
def _figures() -> dict[str, dict[str, Any]]:
    path = Path(__file__).with_name("figures.yaml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))
