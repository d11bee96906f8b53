"""Diversity and squared MMD as pages, report and terminal write them: with their standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from emt_core.explore import numbers

DIVERSITY = "S(D), method section 7. ± is the standard error of a seeded sample."
MMD = "Squared MMD, unbiased, method section 3. ± is the standard error of a seeded sample."


class Measured(NamedTuple):
    value: float | None
    error: float | None = None
    """Standard error of a sample; 0 where all was measured."""

    @property
    def number(self) -> float:
        """For a figure: NaN where it is missing."""
        return math.nan if self.value is None else self.value

    @property
    def text(self) -> str:
        return numbers.estimate(self.value, self.error)

    def change_from(self, before: Measured) -> str | None:
        """`-0.14`, with no digit that an error eats; None where either is missing."""
        if self.value is None or before.value is None:
            return None
        digits = numbers.digits_of(max(self.error or 0, before.error or 0))
        return f"{self.value - before.value:+.{min(digits, 3)}f}"


def measured(found: Mapping[str, Any], *path: str) -> Measured:
    """The figure at this path of a select report, of gap.json or of a manifest's metrics."""
    return Measured(_at(found, path), _at(found.get("errors") or {}, path))


def of_selection(metrics: Mapping[str, Any], when: str) -> dict[str, Measured]:
    """`diversity` and `mmd2_to_robot` of a finished selection (`after`) or of the pool."""
    return {
        "diversity": measured(metrics, "diversity", when),
        "mmd2_to_robot": measured(metrics, "mmd2_to_robot", "all", when),
    }


def _at(found: Any, path: tuple[str, ...]) -> float | None:
    for name in path:
        found = (found or {}).get(name)
    return found
