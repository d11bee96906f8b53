"""Ranges of whole numbers as text, `3,7,10-19`: rows of a source, episodes of a robot set."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

PART = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


def parse_ranges(parts: Iterable[str]) -> list[tuple[int, int]]:
    """(first, last) of each part: `7` or `10-19`, both ends included. Raises ValueError."""
    found = []
    for part in parts:
        match = PART.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{part[:60]!r} is neither a number nor first-last, such as 10-19")
        first = int(match[1])
        last = int(match[2] or match[1])
        if first > last:
            raise ValueError(f"{first}-{last} runs backwards: write first-last")
        found.append((first, last))
    return found


def format_ranges(numbers: np.ndarray, after: np.ndarray | None = None) -> str:
    """`3,7,10-19` from rising numbers. after: bool, whether each goes on the range before it; None:
    where it is the next whole number."""
    goes_on = np.diff(numbers, prepend=-2) == 1 if after is None else after
    starts = np.flatnonzero(~goes_on)
    stops = np.append(starts[1:], len(numbers))[: len(starts)] - 1
    return ",".join(
        str(low) if low == high else f"{low}-{high}"
        for low, high in zip(numbers[starts].tolist(), numbers[stops].tolist(), strict=True)
    )


def checked_ranges(given: Any) -> Any:
    """`0-49, 61`, 61 or [0-49, 61] -> ("0-49", "61"). Raises ValueError for what is no range."""
    if isinstance(given, int | str):
        given = str(given).split(",")
    if not isinstance(given, list | tuple):
        return given
    parts = tuple(str(part).strip() for part in given)
    parse_ranges(parts)
    return parts
