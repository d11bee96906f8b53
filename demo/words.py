"""Strings that the demo's images show, and the wall between those trained on and those kept for the
probe."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np

Split = Literal["train", "heldout"]

HELDOUT_BYTES = 26
"""Share of all strings (by hash, out of 256) that only held-out images may show."""

_ONSETS = "B C D F G H J K L M N P R S T V W Z BR CL CR DR FL GR PL SH SK SL SN ST TR".split()
_VOWELS = "A E I O U A E I O EA OO".split()
_CODAS = "B D G K L M N P R S T X CK LD LT MP ND NK NT RD RK RN ST".split()

_COMMON = (
    "OPEN EXIT STOP SALE FREE TAXI PARK CAFE BANK SHOP HOTEL MUSIC MILK SALT SUGAR FLOUR RICE TEA "
    "COFFEE SOAP GLUE PAINT TOOLS PARTS KEEP OUT PUSH PULL SLOW DANGER NORTH SOUTH EAST WEST ROAD "
    "LANE GATE DOOR ROOM DESK LAMP BOOK PAPER INK PEN BOX CRATE SHIP CARGO PORT DOCK HARBOR RIVER "
    "LAKE OCEAN FOREST STONE METAL GLASS WOOD COPPER IRON STEEL GOLD SILVER WINTER SUMMER SPRING "
    "AUTUMN MONDAY FRIDAY TODAY NIGHT MOON STAR PLANET ROCKET ROBOT ENGINE MOTOR WHEEL BRIDGE "
    "TOWER CASTLE GARDEN FLOWER APPLE LEMON BERRY HONEY BREAD CAKE SOUP PIZZA PASTA JUICE WATER "
    "FRESH FRAGILE HEAVY LIGHT LEFT RIGHT UP DOWN TOP BASE SMALL LARGE HOT COLD DRY WET FAST QUICK "
    "SAFE CLEAN FIRST SECOND THIRD FINAL START END BEGIN STORY TALES POEMS MAPS ATLAS GUIDE NOTES "
    "LETTER DREAM HOME HOUSE ISLAND"
).split()
"""Words of signs, labels and covers, so that not every string is invented."""


def is_heldout(text: str) -> bool:
    """True when `text` belongs to the strings that no training image shows. Case and outer blanks
    do not matter."""
    digest = hashlib.sha256(text.strip().upper().encode()).digest()
    return digest[0] < HELDOUT_BYTES


def _draw(rng: np.random.Generator, split: Split, make) -> str:
    # About one string in ten is held out, so the loop is short; 10_000 tries only guard against a
    # generator
    # whose strings all lie on one side.
    for _ in range(10_000):
        text = make()
        if is_heldout(text) == (split == "heldout"):
            return text
    raise RuntimeError(f"no {split} string found in 10,000 draws")


def _invented(rng: np.random.Generator) -> str:
    parts = [_ONSETS[rng.integers(len(_ONSETS))], _VOWELS[rng.integers(len(_VOWELS))]]
    parts.append(_CODAS[rng.integers(len(_CODAS))])
    if rng.random() < 0.5:
        parts += [_VOWELS[rng.integers(5)], _CODAS[rng.integers(12)] if rng.random() < 0.5 else ""]
    return "".join(parts)


def word(rng: np.random.Generator, split: Split = "train", *, low: int = 3, high: int = 6) -> str:
    """An upper-case word of `low` to `high` letters: half invented (pronounceable), a third common,
    the rest random."""

    def make() -> str:
        while True:
            kind = rng.random()
            if kind < 0.35:
                text = _COMMON[rng.integers(len(_COMMON))]
            elif kind < 0.8:
                text = _invented(rng)
            else:
                text = "".join(
                    chr(65 + int(c)) for c in rng.integers(26, size=rng.integers(low, high + 1))
                )
            if low <= len(text) <= high:
                return text

    return _draw(rng, split, make)


def number(rng: np.random.Generator, split: Split = "train", *, digits: int = 2) -> str:
    """A number of `digits` digits without leading zero, on this side of the split."""
    low = 10 ** (digits - 1)
    return _draw(rng, split, lambda: str(int(rng.integers(low, 10 * low))))


def plate(rng: np.random.Generator, split: Split = "train") -> str:
    """Two letters and two digits, as on a number plate."""

    def make() -> str:
        a, b = rng.integers(26, size=2)
        return f"{chr(65 + int(a))}{chr(65 + int(b))}{int(rng.integers(10, 100))}"

    return _draw(rng, split, make)
