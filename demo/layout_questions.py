"""Pointing and spatial questions about any set of placed, uniquely named objects: exact, and never
ambiguous."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demo.drawing import pick
from demo.phrasing import ask, point


@dataclass(frozen=True, kw_only=True)
class Placed:
    """An object of a drawing; x and y (fractions of the image) lie on the object itself."""

    name: str
    x: float
    y: float


CLEAR = 0.12
"""Two objects count as apart along an axis from this fraction of the image on; nearer pairs are not
asked about."""


def pointing(
    rng: np.random.Generator, objects: list[Placed], limit: int
) -> list[tuple[str, str, dict]]:
    """(question, answer, meta) for up to `limit` of the objects, in random order."""
    order = rng.permutation(len(objects))[:limit]
    found = []
    for i in order:
        o = objects[i]
        found.append(
            (
                ask(rng, "point", thing=o.name),
                point(o.x, o.y),
                {"target": o.name, "x": o.x, "y": o.y},
            )
        )
    return found


def relations(
    rng: np.random.Generator, objects: list[Placed], limit: int
) -> list[tuple[str, str, dict]]:
    """Up to `limit` (question, answer, meta) about where objects lie, each with exactly one right
    answer."""
    makers = (
        _yes_no,
        _yes_no,
        _direction,
        _direction,
        _what_side,
        _what_side,
        _what_at,
        _what_at,
        _part,
        _nearest,
    )
    found: dict[str, tuple[str, str, dict]] = {}
    for _ in range(4 * limit):
        made = pick(rng, makers)(rng, objects)
        if made is not None:
            found.setdefault(made[0], made)
        if len(found) == limit:
            break
    return list(found.values())


def _pair(rng: np.random.Generator, objects: list[Placed]) -> tuple[Placed, Placed] | None:
    if len(objects) < 2:
        return None
    i, j = rng.choice(len(objects), size=2, replace=False)
    return objects[i], objects[j]


def _yes_no(rng: np.random.Generator, objects: list[Placed]):
    pair = _pair(rng, objects)
    if pair is None:
        return None
    a, b = pair
    if rng.random() < 0.5:
        gap = b.x - a.x
        intents = ("is_left", "is_right")
    else:
        gap = b.y - a.y
        intents = ("is_above", "is_below")
    if abs(gap) < CLEAR:
        return None
    which = int(rng.integers(2))
    true = (gap > 0) == (which == 0)
    return ask(rng, intents[which], a=a.name, b=b.name), "yes" if true else "no", {"form": "yes_no"}


def _direction(rng: np.random.Generator, objects: list[Placed]):
    pair = _pair(rng, objects)
    if pair is None:
        return None
    a, b = pair
    dx = a.x - b.x
    dy = a.y - b.y
    long = max(abs(dx), abs(dy))
    short = min(abs(dx), abs(dy))
    if long < CLEAR or long < 1.5 * short:
        return None
    answer = (
        ("left" if dx < 0 else "right") if abs(dx) > abs(dy) else ("above" if dy < 0 else "below")
    )
    return ask(rng, "relation", a=a.name, b=b.name), answer, {"form": "direction"}


def _what_side(rng: np.random.Generator, objects: list[Placed]):
    pair = _pair(rng, objects)
    if pair is None:
        return None
    _, b = pair
    side = pick(rng, ("left", "right", "above", "below"))
    gaps = {
        "left": [b.x - o.x for o in objects],
        "right": [o.x - b.x for o in objects],
        "above": [b.y - o.y for o in objects],
        "below": [o.y - b.y for o in objects],
    }[side]
    others = [(g, o) for g, o in zip(gaps, objects, strict=True) if o is not b]
    on_side = [o for g, o in others if g > 0]
    if len(on_side) != 1 or any(abs(g) < CLEAR for g, _ in others):
        return None
    return ask(rng, f"what_{side}", b=b.name), on_side[0].name, {"form": "what_side"}


def _what_at(rng: np.random.Generator, objects: list[Placed]):
    o = pick(rng, objects)
    return ask(rng, "what_at", point=point(o.x, o.y)), o.name, {"form": "what_at"}


def _part(rng: np.random.Generator, objects: list[Placed]):
    o = pick(rng, objects)
    if min(abs(o.x - 0.5), abs(o.y - 0.5)) < CLEAR / 2:
        return None
    answer = f"{'top' if o.y < 0.5 else 'bottom'} {'left' if o.x < 0.5 else 'right'}"
    return ask(rng, "which_part", a=o.name), answer, {"form": "part"}


def _nearest(rng: np.random.Generator, objects: list[Placed]):
    if len(objects) < 3:
        return None
    b = pick(rng, objects)
    far = sorted((float(np.hypot(o.x - b.x, o.y - b.y)), o.name) for o in objects if o is not b)
    if far[1][0] < 1.35 * far[0][0]:
        return None
    return ask(rng, "what_near", b=b.name), far[0][1], {"form": "nearest"}
