"""How numbers are written in pages, figures and the report."""

from __future__ import annotations

import math
from typing import TypeGuard

MISSING = "–"
LARGE = 1e6
"""From here on, scores and measures are written as powers of ten."""


def whole(value: float | None) -> str:
    """`1,234,567`."""
    return f"{round(value):,}" if _given(value) else MISSING


def counted(value: int, noun: str) -> str:
    """`1 sample`, `1,234 samples`."""
    return f"{whole(value)} {noun}" + ("" if value == 1 else "s")


def short(value: float | None) -> str:
    """`987`, `12.3 k`, `1.20 M`: three significant digits."""
    if not _given(value):
        return MISSING
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if abs(value) >= size:
            scaled = value / (1e3 if unit == "k" else size)
            return f"{scaled:.3g} {unit}" if abs(scaled) < 1000 else f"{scaled:,.0f} {unit}"
    return f"{value:,.0f}"


def size(value: float | None) -> str:
    """Bytes: `812 B`, `1.3 MB`, `42 GB` (powers of 1000, as disks are sold)."""
    if not _given(value):
        return MISSING
    for unit, step in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= 0.9995 * step:
            return (
                f"{value / step:.3g} {unit}"
                if value < 999.5 * step
                else f"{value / step:,.0f} {unit}"
            )
    return f"{value:,.0f} B"


def share(value: float | None, digits: int = 1) -> str:
    """0.2934 -> `29.3 %`; small but not zero: `< 0.1 %`."""
    if not _given(value):
        return MISSING
    least = 10 ** -(digits + 2)
    if 0 < value < least / 2:
        return f"< {least:.{digits}%}".replace("%", " %")
    return f"{value:.{digits}%}".replace("%", " %")


def logit(value: float | None) -> str:
    """A score: `+2.31`, `-0.07`, `+5.5e+34`."""
    if not _given(value):
        return MISSING
    return (f"{value:+.2f}" if abs(value) < LARGE else f"{value:+.1e}").replace("-", "−")


def decimal(value: float | None, digits: int = 3) -> str:
    """A number without unit (AUROC, MMD²): fixed digits, or scientific if very large or small."""
    if not _given(value):
        return MISSING
    if abs(value) >= LARGE or (value and abs(value) < 0.5 * 10**-digits):
        return f"{value:.1e}"
    return f"{value:.{digits}f}"


def estimate(value: float | None, error: float | None) -> str:
    """`0.169 ± 0.004`: a figure down to the first digit of its standard error.

    Without an error (all was measured, or it is not known) as `decimal` writes it.
    """
    if not error or not _given(value):
        return decimal(value)
    digits = digits_of(error)
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def digits_of(error: float) -> int:
    """Decimal places down to the first digit of a standard error; 3 for an error of 0."""
    return max(0, -math.floor(math.log10(error))) if error > 0 else 3


def change(after: float | None, before: float | None) -> str | None:
    """`+12.3 points` between two shares; None where either is missing."""
    if not _given(after) or not _given(before):
        return None
    return f"{100 * (after - before):+.1f} points"


def probability(value: float) -> float:
    """Logistic function of a logit, safe at the ends."""
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def _given(value: float | None) -> TypeGuard[float]:
    return value is not None and not (isinstance(value, float) and math.isnan(value))
