"""What is damaged, how, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal


@dataclass(frozen=True)
class Mutant:
    """What was done to a clean source, and what has to come of it.

    rows: how many it has, None where that cannot be said. touched: rows that may differ from the
    clean ones, None for any. fails: whether an EmtError may, must or must never come of it.
    """

    did: str
    rows: int | None = None
    touched: frozenset[int] | None = None
    fails: Literal["never", "may", "must"] = "may"


Damage = Callable[[Path, Random], Mutant]


@dataclass(frozen=True)
class Variant:
    source: dict[str, Any]
    write: Callable[[Path], None]
    damage: Damage


def pool(format: str, path: str, **more: Any) -> dict[str, Any]:
    return {"format": format, "name": "m", "role": "pool", "path": path, **more}


def chosen(*parts: tuple[float, Damage]) -> Damage:
    """One of several damages, by weight."""

    def damage(folder: Path, rng: Random) -> Mutant:
        weights = [weight for weight, _ in parts]
        return rng.choices([part for _, part in parts], weights)[0](folder, rng)

    return damage
