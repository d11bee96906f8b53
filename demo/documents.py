"""Things to read: signs, labels, book covers, tickets, number plates, posters. Every string
respects the split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from demo.drawing import (
    COLORS,
    Mark,
    as_meta,
    background,
    contrast,
    fitted_text,
    pick,
    random_font,
    shade,
    write,
)
from demo.phrasing import ask
from demo.sample import Answered, DemoSample, samples_of
from demo.words import Split, number, plate, word
from emt_core.evaluation.recording.tasks import IMAGE_SIZE

_Layout = Callable[[np.random.Generator, Image.Image, Split, list[Mark]], Answered]
_PAPER = ("white", "yellow", "pink", "grey")


def _ink_on(rng: np.random.Generator, paper: tuple[int, int, int]) -> tuple[int, int, int]:
    """A colour that stands out from `paper` by at least 90 of 255 in brightness."""
    while True:
        ink = shade(rng, pick(rng, list(COLORS)))
        if contrast(ink, paper) >= 90:
            return ink


def _centered(
    draw: ImageDraw.ImageDraw,
    text: str,
    face,
    box: tuple[int, int, int, int],
    ink,
    marks: list[Mark],
) -> None:
    left, top, right, bottom = draw.textbbox((0, 0), text, font=face, anchor="ls")
    x = (box[0] + box[2]) / 2 - (left + right) / 2
    y = (box[1] + box[3]) / 2 - (top + bottom) / 2
    write(draw, (x, y), text, face, ink, marks, anchor="ls")


def _filler(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], ink
) -> None:
    """Grey bars that stand for small print."""
    for y in range(box[1], box[3] - 2, 6):
        draw.rectangle(
            (box[0], y, box[0] + int((box[2] - box[0]) * rng.uniform(0.5, 1.0)), y + 2), fill=ink
        )


def _sign(
    rng: np.random.Generator, image: Image.Image, split: Split, marks: list[Mark]
) -> Answered:
    draw = ImageDraw.Draw(image)
    text = word(rng, split)
    surface = pick(rng, ("sign", "board", "label", "sticker", "box", "banner"))
    width = int(rng.integers(76, 109))
    height = int(rng.integers(30, 56))
    left = int(rng.integers(1, IMAGE_SIZE - width))
    top = int(rng.integers(1, IMAGE_SIZE - height - 2))
    paper = shade(rng, pick(rng, list(COLORS)))
    ink = _ink_on(rng, paper)
    if surface == "sign":
        draw.rectangle(
            (left + width // 2 - 2, top + height, left + width // 2 + 2, IMAGE_SIZE),
            fill=(90, 80, 70),
        )
    draw.rounded_rectangle(
        (left, top, left + width, top + height),
        radius=int(rng.integers(0, 8)),
        fill=paper,
        outline=ink,
    )
    face = fitted_text(
        draw, text, font_name=random_font(rng), width=width - 8, largest=min(34, height - 8)
    )
    _centered(draw, text, face, (left, top, left + width, top + height), ink, marks)
    found: Answered = [("read", ask(rng, "read", surface=surface), text, {"text": text})]
    named = [
        c for c, v in COLORS.items() if max(abs(a - b) for a, b in zip(v, paper, strict=True)) <= 12
    ]
    if len(named) == 1:
        found.append(("colour", ask(rng, "colour_of", thing=surface), named[0], {"of": surface}))
    return found


def _label(
    rng: np.random.Generator, image: Image.Image, split: Split, marks: list[Mark]
) -> Answered:
    draw = ImageDraw.Draw(image)
    surface = pick(rng, ("label", "jar", "bottle", "can", "package"))
    name = word(rng, split, high=5)
    amount = number(rng, split, digits=int(rng.integers(2, 4)))
    body = shade(rng, pick(rng, ("brown", "green", "blue", "red", "orange", "grey")))
    draw.rounded_rectangle((12, 6, 99, 110), radius=12, fill=body)
    paper = shade(rng, pick(rng, _PAPER))
    ink = _ink_on(rng, paper)
    draw.rectangle((16, 24, 95, 96), fill=paper)
    face_name = random_font(rng)
    _centered(
        draw,
        name,
        fitted_text(draw, name, font_name=face_name, width=75, largest=28),
        (16, 24, 95, 60),
        ink,
        marks,
    )
    _centered(
        draw,
        amount,
        fitted_text(draw, amount, font_name=face_name, width=60, largest=26),
        (16, 60, 95, 96),
        ink,
        marks,
    )
    return [
        (
            "read",
            ask(rng, "read", surface=surface),
            f"{name} {amount}",
            {"text": f"{name} {amount}"},
        ),
        ("read", ask(rng, "read_number", surface=surface), amount, {"text": amount}),
    ]


def _cover(
    rng: np.random.Generator, image: Image.Image, split: Split, marks: list[Mark]
) -> Answered:
    draw = ImageDraw.Draw(image)
    title = word(rng, split)
    author = word(rng, split)
    paper = shade(rng, pick(rng, list(COLORS)))
    ink = _ink_on(rng, paper)
    left = int(rng.integers(2, 14))
    right = int(rng.integers(98, 110))
    draw.rectangle((left, 2, right, 109), fill=paper)
    draw.rectangle((left, 2, left + 4, 109), fill=tuple(c // 2 for c in paper))
    face = fitted_text(draw, title, font_name=random_font(rng), width=right - left - 12, largest=30)
    _centered(draw, title, face, (left + 6, 8, right, 42), ink, marks)
    middle = (left + 30, 46, right - 26, 74)
    if rng.random() < 0.5:
        draw.ellipse(middle, fill=_ink_on(rng, paper))
    else:
        draw.rectangle(middle, fill=_ink_on(rng, paper))
    byline = author
    face = fitted_text(
        draw, byline, font_name=random_font(rng), width=right - left - 14, largest=21
    )
    _centered(draw, byline, face, (left + 6, 80, right, 106), ink, marks)
    return [
        ("read", ask(rng, "read_title"), title, {"text": title}),
        ("read", ask(rng, "read_author"), author, {"text": author}),
    ]


def _lines(
    rng: np.random.Generator, image: Image.Image, split: Split, marks: list[Mark]
) -> Answered:
    draw = ImageDraw.Draw(image)
    surface = pick(rng, ("poster", "note", "page", "menu", "list"))
    rows = int(rng.integers(2, 4))
    words = [word(rng, split, high=5) for _ in range(rows)]
    paper = shade(rng, pick(rng, _PAPER))
    ink = _ink_on(rng, paper)
    draw.rectangle((6, 3, 106, 109), fill=paper)
    face_name = random_font(rng)
    step = 104 // rows
    for i, text in enumerate(words):
        face = fitted_text(draw, text, font_name=face_name, width=92, largest=min(28, step - 8))
        _centered(draw, text, face, (6, 4 + i * step, 106, 4 + (i + 1) * step), ink, marks)
    nth = ("first", "second", "third")
    return [
        *(
            ("read", ask(rng, "read_line", nth=nth[i], surface=surface), w, {"text": w})
            for i, w in enumerate(words)
        ),
        ("count", ask(rng, "count_one", things="lines of text"), str(rows), {"of": "lines"}),
    ]


def _ticket(
    rng: np.random.Generator, image: Image.Image, split: Split, marks: list[Mark]
) -> Answered:
    draw = ImageDraw.Draw(image)
    surface = pick(rng, ("ticket", "receipt", "tag", "coupon"))
    shop = word(rng, split, high=5)
    amount = number(rng, split, digits=int(rng.integers(2, 4)))
    paper = shade(rng, "white")
    draw.rectangle((14, 2, 98, 110), fill=paper)
    ink = _ink_on(rng, paper)
    face = fitted_text(draw, shop, font_name=random_font(rng), width=76, largest=24)
    _centered(draw, shop, face, (14, 4, 98, 32), ink, marks)
    _filler(rng, draw, (22, 38, 90, 70), (190, 190, 190))
    face = fitted_text(draw, amount, font_name=random_font(rng), width=64, largest=28)
    _centered(draw, amount, face, (14, 74, 98, 108), ink, marks)
    return [
        (
            "read",
            ask(rng, "read", surface=surface),
            f"{shop} {amount}",
            {"text": f"{shop} {amount}"},
        ),
        ("read", ask(rng, "read_number", surface=surface), amount, {"text": amount}),
    ]


def _plate(
    rng: np.random.Generator, image: Image.Image, split: Split, marks: list[Mark]
) -> Answered:
    draw = ImageDraw.Draw(image)
    text = plate(rng, split)
    top = int(rng.integers(20, 64))
    draw.rounded_rectangle(
        (2, top - 16, 109, top + 46), radius=10, fill=shade(rng, pick(rng, list(COLORS)))
    )
    draw.rectangle(
        (8, top, 103, top + 30),
        fill=shade(rng, pick(rng, ("white", "yellow"))),
        outline=(20, 20, 20),
    )
    face = fitted_text(draw, text, font_name=random_font(rng), width=88, largest=27)
    _centered(draw, text, face, (8, top, 103, top + 30), shade(rng, "black"), marks)
    return [
        (
            "read",
            ask(rng, "read", surface=pick(rng, ("number plate", "licence plate"))),
            text,
            {"text": text},
        )
    ]


_LAYOUTS: tuple[_Layout, ...] = (
    _sign,
    _sign,
    _label,
    _cover,
    _lines,
    _ticket,
    _plate,
)
_NAMES: dict[_Layout, str] = {
    _sign: "a sign",
    _label: "a labelled package",
    _cover: "a book cover",
    _lines: "a page with large words",
    _ticket: "a receipt",
    _plate: "a number plate",
}

DOCUMENT_NAMES: tuple[str, ...] = tuple(_NAMES.values())
"""What a caption of a document calls it."""


def draw_document(rng: np.random.Generator, key: str, split: Split = "train") -> list[DemoSample]:
    """All questions about one image with text; strings come from `split` only."""
    image, _ = background(rng)
    layout = pick(rng, _LAYOUTS)
    marks: list[Mark] = []
    found = layout(rng, image, split, marks)
    shown = " ".join(m["text"] for _, _, _, m in found if "text" in m)
    if rng.random() < 0.3:
        texts = [m["text"] for _, _, _, m in found if "text" in m]
        head = max(texts, key=len)
        found.append(
            (
                "caption",
                ask(rng, "caption"),
                f"A picture of {_NAMES[layout]} that says {head}.",
                {"names": [_NAMES[layout]]},
            )
        )
    meta = {
        "family": "documents",
        "layout": layout.__name__.strip("_"),
        "shown": shown,
        "marks": as_meta(marks),
    }
    return samples_of(image, key, found, style="plain", meta=meta)
