"""The pool's side that no simulator drew: four families of images, each with all questions about
it.

    samples = list(general_samples(seed=7, images=200))                       # all families in turn
    covers = list(general_samples(seed=7, images=50, families=("documents",)))

Every image has its own random generator, made from (seed, family, index): image 57 is the same
whether or not the 56 before it were drawn, so data sets can grow, be drawn in parallel and be
rebuilt in part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from demo.charts import draw_chart
from demo.documents import draw_document
from demo.emoji import draw_things
from demo.sample import DemoSample
from demo.scenes import draw_scene
from demo.words import Split

FAMILIES: dict[str, Callable[[np.random.Generator, str, Split], list[DemoSample]]] = {
    "things": draw_things,
    "scenes": draw_scene,
    "documents": draw_document,
    "charts": draw_chart,
}
_FAMILY_NUMBER = {name: i for i, name in enumerate(FAMILIES)}
_SPLIT_NUMBER = {"train": 0, "heldout": 1}


def draw(family: str, seed: int, index: int, split: Split = "train") -> list[DemoSample]:
    """Image `index` of `family` and every question about it (one to about ten, one image object
    shared by all).

    Images of the two splits never coincide: the split is part of the seed, and no string is in both
    (`words.py`). Raises KeyError for an unknown family and FontsMissing where the build machine
    lacks a font.
    """
    make = FAMILIES[family]
    rng = np.random.default_rng([_SPLIT_NUMBER[split], seed, _FAMILY_NUMBER[family], index])
    return make(rng, f"{family}-{'h' if split == 'heldout' else 't'}{seed}-{index:06d}", split)


def general_samples(
    *,
    seed: int,
    images: int,
    families: Sequence[str] = tuple(FAMILIES),
    split: Split = "train",
    per_image: int | None = None,
    multi_turn: float = 0.0,
) -> Iterator[DemoSample]:
    """Samples of `images` images, the families taking turns.

    per_image: at most so many questions an image (None: all). multi_turn: share of images whose
    questions of the same content become one conversation (`DemoSample.turns`).
    """
    for n in range(images):
        family = families[n % len(families)]
        index = n // len(families)
        found = draw(family, seed, index, split)
        rng = np.random.default_rng([_SPLIT_NUMBER[split], seed, _FAMILY_NUMBER[family], index, 1])
        order = [found[i] for i in rng.permutation(len(found))]
        if rng.random() < multi_turn:
            yield from joined(order, 3)[:per_image]
        else:
            yield from order[:per_image]


def joined(samples: Sequence[DemoSample], turns: int) -> list[DemoSample]:
    """Samples of one image as conversations of up to `turns` question-answer pairs, one content
    each."""
    out = []
    for content in ("general", "embodied"):
        group = [s for s in samples if s.content == content]
        for start in range(0, len(group), turns):
            first, *rest = group[start : start + turns]
            more = [[s.question, s.answer] for s in rest]
            out.append(replace(first, meta={**first.meta, "more_turns": more}) if more else first)
    return out
