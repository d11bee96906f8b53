"""Small pieces of measured sentences and labels."""

from __future__ import annotations

from collections.abc import Sequence


def in_a_row(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return (
        parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""
    )


def literal(text: object) -> str:
    """A name as Plotly shows it letter by letter: Plotly reads `<b>` and `<a href>` in ticks, legends and hovers."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
