"""The unusual but legal rows that every real pool has: several images, or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from demo.drawing import COLORS, pick
from demo.phrasing import article, plural
from demo.sample import DemoSample
from demo.words import word
from emt_core.errors import EmtError

if TYPE_CHECKING:
    from PIL import Image

_ORDINALS = ("first", "second", "third")


def several_images(
    rng: np.random.Generator, samples: Sequence[DemoSample]
) -> tuple[tuple[tuple[str, Image.Image], ...], str, str]:
    """(images, question, answer) about two or three drawings: which of them shows an object that
    only one has.

    samples: one for each drawing; meta["names"] is what each shows. Raises EmtError where no triple
    fits.
    """
    drawn = [s for s in samples if s.meta.get("names")]
    for _ in range(200):
        if len(drawn) < 3:
            break
        chosen = [
            drawn[i] for i in rng.choice(len(drawn), size=int(rng.integers(2, 4)), replace=False)
        ]
        names = [set(s.meta["names"]) for s in chosen]
        place = int(rng.integers(len(chosen)))
        others = set().union(*(n for i, n in enumerate(names) if i != place))
        only = sorted(names[place] - others)
        if not only:
            continue
        thing = article(pick(rng, only))
        question = pick(
            rng,
            (
                f"Which of the images shows {thing}?",
                f"In which picture do you see {thing}?",
                f"One of these images has {thing}. Which one?",
            ),
        )
        return tuple((s.image_key, s.image) for s in chosen), question, f"the {_ORDINALS[place]}"
    raise EmtError("No set of drawings has an object of its own", remedy="build at a larger scale")


def text_only(rng: np.random.Generator) -> tuple[str, str]:
    """(question, answer) that needs no image."""
    a, b = (int(v) for v in rng.integers(2, 50, size=2))
    text = word(rng, "train", low=4, high=6)
    noun = pick(rng, ("cup", "box", "knife", "brush", "berry", "key", "dish", "glass", "lamp"))
    color = pick(rng, sorted(COLORS))
    return pick(
        rng,
        (
            (f"What is {a} plus {b}?", str(a + b)),
            (f"Which is larger, {a} or {b + 50}?", str(b + 50)),
            (f"Spell the word {text} backwards.", text[::-1]),
            (f"How many letters does the word {text} have?", str(len(text))),
            (f'What is the plural of "{noun}"?', plural(noun)),
            (f"With which letter does the word {color} begin?", color[0]),
        ),
    )
