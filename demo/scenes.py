"""Abstract scenes: coloured shapes of two sizes, in the manner of CLEVR and ShapeWorld but drawn
flat."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from PIL import Image, ImageDraw

from demo.drawing import as_meta, background, contrast, pick, place, shade
from demo.layout_questions import Placed, pointing, relations
from demo.phrasing import article, ask, listing, plural
from demo.sample import Answered, DemoSample, Kind, samples_of
from emt_core.evaluation.recording.tasks import IMAGE_SIZE

SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "ring", "hexagon")
HUES = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "grey",
)
_OVERSAMPLE = 4
"""Drawn four times too large, then shrunk: smooth edges."""


def _polygon(
    n: int, radius: float, turn: float, inner: float | None = None
) -> list[tuple[float, float]]:
    radii = [radius, radius * inner] * n if inner else [radius] * n
    return [
        (
            r * math.cos(turn + 2 * math.pi * i / len(radii)),
            r * math.sin(turn + 2 * math.pi * i / len(radii)),
        )
        for i, r in enumerate(radii)
    ]


def _stamp(shape: str, size: int, turn: float) -> Image.Image:
    """The shape's coverage, "L", size x size pixels."""
    big = size * _OVERSAMPLE
    mask = Image.new("L", (big, big), 0)
    pen = ImageDraw.Draw(mask)
    mid = big / 2
    radius = big / 2 - 1

    def fill(points: list[tuple[float, float]]) -> None:
        pen.polygon([(mid + x, mid + y) for x, y in points], fill=255)

    if shape == "circle":
        pen.ellipse((1, 1, big - 2, big - 2), fill=255)
    elif shape == "ring":
        pen.ellipse((1, 1, big - 2, big - 2), fill=255)
        pen.ellipse((0.28 * big, 0.28 * big, 0.72 * big, 0.72 * big), fill=0)
    elif shape == "square":
        fill(_polygon(4, radius * 1.1, math.pi / 4 + turn * 0.3))
    elif shape == "diamond":
        fill([(0, -radius), (0.66 * radius, 0), (0, radius), (-0.66 * radius, 0)])
    elif shape == "triangle":
        fill(_polygon(3, radius, -math.pi / 2 + turn * 0.5))
    elif shape == "hexagon":
        fill(_polygon(6, radius, turn))
    elif shape == "star":
        fill(_polygon(5, radius, -math.pi / 2 + turn * 0.5, inner=0.42))
    else:  # cross
        bar = 0.17 * big
        pen.rectangle((mid - bar, 1, mid + bar, big - 2), fill=255)
        pen.rectangle((1, mid - bar, big - 2, mid + bar), fill=255)
    return mask.resize((size, size), Image.Resampling.BOX)


def draw_scene(rng: np.random.Generator, key: str, split: str = "train") -> list[DemoSample]:
    """All questions about one image of two to eight shapes; `split` changes nothing here (no
    strings are shown)."""
    del split
    image, ground = background(rng)
    small_world = rng.random() < 0.35  # few kinds, many copies: something to count
    n = int(rng.integers(3, 9)) if small_world else int(rng.integers(2, 6))
    hues = [h for h in HUES if h != ground and (ground is not None or h not in ("grey", "brown"))]
    if small_world:
        kinds = [(pick(rng, hues), pick(rng, SHAPES)) for _ in range(int(rng.integers(1, 4)))]
        drawn = [pick(rng, kinds) for _ in range(n)]
    else:
        drawn = [(pick(rng, hues), pick(rng, SHAPES)) for _ in range(n)]
    while True:
        sizes = [
            int(rng.integers(28, 37)) if rng.random() < 0.5 else int(rng.integers(17, 22))
            for _ in drawn
        ]
        centers = place(rng, sizes)
        if centers is not None:
            break
    placed: list[Placed] = []
    for (hue, shape), (x, y), size in zip(drawn, centers, sizes, strict=True):
        mask = _stamp(shape, size, float(rng.uniform(-0.5, 0.5)))
        left = x - size // 2
        top = y - size // 2
        here = cast("tuple[int, int, int]", image.getpixel((x, y)))  # the image is RGB
        tone = shade(rng, hue)
        if (
            contrast(tone, here) < 25
        ):  # an outline keeps the shape visible on a background of like brightness
            edge = (250, 250, 250) if sum(here) < 380 else (20, 20, 20)
            image.paste(edge, (left - 1, top - 1), mask.resize((size + 2, size + 2)))
        image.paste(tone, (left, top), mask)
        # The middle of a ring is a hole: the point goes on its left rim.
        at_x = left + (0.14 * size if shape == "ring" else size / 2)
        placed.append(
            Placed(name=f"{hue} {shape}", x=at_x / IMAGE_SIZE, y=(top + size / 2) / IMAGE_SIZE)
        )
    labels = [p.name for p in placed]
    once = [p for p in placed if labels.count(p.name) == 1]

    found: Answered = []

    def add(kind: Kind, question: str, answer: str, meta: dict | None = None) -> None:
        found.append((kind, question, answer, meta or {}))

    order = sorted(dict.fromkeys(labels), key=lambda k: min(p.x for p in placed if p.name == k))
    phrases = [
        article(k) if (c := labels.count(k)) == 1 else f"{_NUMERALS[c]} {plural(k)}" for k in order
    ]
    tail = f" on a {ground} background" if ground else ""
    add(
        "caption",
        ask(rng, "caption"),
        f"The image shows {listing(phrases)}{tail}.",
        {"names": sorted(order)},
    )
    if once:
        for q, a, m in pointing(rng, once, 3):
            add("point", q, a, m)
    if len(once) >= 2:
        for q, a, m in relations(rng, once, 3):
            add("spatial", q, a, m)
    shapes = [s for _, s in drawn]
    by_shape = pick(rng, shapes)
    by_hue = pick(rng, [h for h, _ in drawn])
    add(
        "count",
        ask(rng, "count_one", things=plural(by_shape)),
        str(shapes.count(by_shape)),
        {"of": by_shape},
    )
    if rng.random() < 0.6:
        hue_count = sum(h == by_hue for h, _ in drawn)
        add(
            "count",
            ask(rng, "count_one", things=f"{by_hue} objects"),
            str(hue_count),
            {"of": by_hue},
        )
    if rng.random() < 0.6:
        add("count", ask(rng, "count_all"), str(n), {"of": "all"})
    alone = [(h, s) for h, s in drawn if shapes.count(s) == 1]
    if alone:
        hue, shape = pick(rng, alone)
        add("colour", ask(rng, "colour_of", thing=shape), hue, {"of": shape})
    if ground and rng.random() < 0.5:
        add("colour", ask(rng, "colour_background"), ground, {"of": "background"})
    meta = {"family": "scenes", "marks": as_meta([(p.name, p.x, p.y) for p in placed])}
    return samples_of(image, key, found, style="plain", meta=meta)


_NUMERALS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight"}
