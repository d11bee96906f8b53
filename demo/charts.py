"""Bar, line and pie charts and small tables, drawn large enough to be read at 112 pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from demo.drawing import Mark, as_meta, fitted_text, font, pick, random_font, shade, write
from demo.phrasing import ask
from demo.sample import Answered, DemoSample, samples_of
from demo.words import Split, number, word
from emt_core.evaluation.recording.tasks import IMAGE_SIZE

_HUES = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
_AXIS = (60, 60, 60)


def _distinct_values(rng: np.random.Generator, n: int) -> list[int]:
    """n different integers of 1..9, so that maximum and minimum are unique."""
    return [int(v) for v in rng.permutation(np.arange(1, 10))[:n]]


def _chart_questions(
    rng: np.random.Generator, chart: str, entries: dict[str, str], order: list[float], parts: str
) -> Answered:
    """Value, maximum, minimum, number of parts; order: the comparable values of `entries`."""
    names = list(entries)
    asked = [names[i] for i in rng.permutation(len(names))[:2]]
    found: Answered = [
        ("chart", ask(rng, "chart_value", name=n, chart=chart), entries[n], {"form": "value"})
        for n in asked
    ]
    found.append(
        (
            "chart",
            ask(rng, "chart_most", chart=chart),
            names[int(np.argmax(order))],
            {"form": "most"},
        )
    )
    if rng.random() < 0.5:
        found.append(
            (
                "chart",
                ask(rng, "chart_least", chart=chart),
                names[int(np.argmin(order))],
                {"form": "least"},
            )
        )
    if rng.random() < 0.3:
        answer = str(len(names))
        found.append(
            ("chart", ask(rng, "chart_bars", parts=parts, chart=chart), answer, {"form": "parts"})
        )
    return found


def _bars(
    rng: np.random.Generator, image: Image.Image, split: Split, marks: list[Mark]
) -> Answered:
    del split  # single letters and colour names only
    draw = ImageDraw.Draw(image)
    n = int(rng.integers(2, 6))
    values = _distinct_values(rng, n)
    by_color = rng.random() < 0.5
    hues = [_HUES[i] for i in rng.permutation(len(_HUES))[:n]]
    names = [f"the {h} bar" for h in hues] if by_color else [f"bar {c}" for c in "ABCDE"[:n]]
    if not by_color and rng.random() < 0.5:
        hues = [pick(rng, _HUES)] * n
    face = font(random_font(rng), 14)
    floor = 92
    roof = 18
    left = 8
    step = (IMAGE_SIZE - left - 4) / n
    for level in range(0, 10, 3):
        y = floor - level / 9 * (floor - roof)
        draw.line((left, y, IMAGE_SIZE - 4, y), fill=(215, 215, 215))
    for i, (value, hue) in enumerate(zip(values, hues, strict=True)):
        x0 = left + i * step + 2
        x1 = left + (i + 1) * step - 2
        y = floor - value / 9 * (floor - roof)
        draw.rectangle((x0, y, x1, floor), fill=shade(rng, hue))
        marks.append((hue, (x0 + x1) / 2 / IMAGE_SIZE, (y + floor) / 2 / IMAGE_SIZE))
        write(draw, ((x0 + x1) / 2, y - 1), str(value), face, _AXIS, marks, "mb")
        if not by_color:
            write(draw, ((x0 + x1) / 2, floor + 3), "ABCDE"[i], face, _AXIS, marks, "mt")
    draw.line((left, roof - 8, left, floor), fill=_AXIS)
    draw.line((left, floor, IMAGE_SIZE - 4, floor), fill=_AXIS)
    entries = dict(zip(names, map(str, values), strict=True))
    return _chart_questions(rng, "bar chart", entries, list(values), "bars")


def _line(
    rng: np.random.Generator, image: Image.Image, split: Split, marks: list[Mark]
) -> Answered:
    del split
    draw = ImageDraw.Draw(image)
    n = int(rng.integers(3, 6))
    values = _distinct_values(rng, n)
    face = font(random_font(rng), 14)
    floor = 90
    roof = 22
    xs = np.linspace(14, IMAGE_SIZE - 14, n)
    ys = [floor - v / 9 * (floor - roof) for v in values]
    draw.line((6, floor + 2, IMAGE_SIZE - 4, floor + 2), fill=_AXIS)
    draw.line((6, 10, 6, floor + 2), fill=_AXIS)
    hue = shade(rng, pick(rng, _HUES))
    draw.line(list(zip(xs, ys, strict=True)), fill=hue, width=3)
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=hue)
        write(draw, (x, y - 4), str(values[i]), face, _AXIS, marks, "mb")
        write(draw, (x, floor + 5), "ABCDE"[i], face, _AXIS, marks, "mt")
    entries = {f"point {'ABCDE'[i]}": str(v) for i, v in enumerate(values)}
    found = _chart_questions(rng, "line chart", entries, list(values), "points")
    found.append(
        (
            "chart",
            ask(rng, "chart_trend"),
            "rise" if values[-1] > values[0] else "fall",
            {"form": "trend"},
        )
    )
    return found


def _pie(rng: np.random.Generator, image: Image.Image, split: Split, marks: list[Mark]) -> Answered:
    del split
    draw = ImageDraw.Draw(image)
    n = int(rng.integers(2, 5))
    shares = {2: [(65, 35), (75, 25), (80, 20)], 3: [(50, 30, 20), (60, 25, 15), (55, 35, 10)]}.get(
        n, [(40, 30, 20, 10), (45, 25, 20, 10)]
    )
    values = [int(v) for v in rng.permutation(pick(rng, shares))]
    hues = [_HUES[i] for i in rng.permutation(len(_HUES))[:n]]
    start = float(rng.uniform(0, 360))
    face = font(random_font(rng), 13)
    for value, hue in zip(values, hues, strict=True):
        end = start + 3.6 * value
        draw.pieslice((6, 6, 105, 105), start, end, fill=shade(rng, hue), outline=(250, 250, 250))
        middle = np.deg2rad((start + end) / 2)
        at = (55.5 + 33 * np.cos(middle), 55.5 + 33 * np.sin(middle))
        write(draw, at, str(value), face, (15, 15, 15), marks)
        marks.append((hue, at[0] / IMAGE_SIZE, at[1] / IMAGE_SIZE))
        start = end
    entries = {f"the {h} slice": str(v) for h, v in zip(hues, values, strict=True)}
    return _chart_questions(rng, "pie chart", entries, list(values), "slices")


def _table(
    rng: np.random.Generator, image: Image.Image, split: Split, marks: list[Mark]
) -> Answered:
    draw = ImageDraw.Draw(image)
    rows = int(rng.integers(2, 5))
    names: list[str] = []
    while len(names) < rows:
        text = word(rng, split, low=3, high=4)
        if text not in names:
            names.append(text)
    values: list[str] = []
    while len(values) < rows:
        text = number(rng, split, digits=2)
        if text not in values:
            values.append(text)
    face_name = random_font(rng)
    step = 104 // rows
    head = shade(rng, pick(rng, _HUES), 4)
    tint = tuple((3 * 255 + c) // 4 for c in head)
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        y = 4 + i * step
        draw.rectangle(
            (4, y, 107, y + step), fill=tint if i % 2 else (255, 255, 255), outline=(150, 150, 150)
        )
        face = fitted_text(draw, name, font_name=face_name, width=56, largest=min(20, step - 6))
        write(draw, (8, y + step / 2), name, face, (25, 25, 25), marks, "lm")
        face = fitted_text(draw, value, font_name=face_name, width=34, largest=min(20, step - 6))
        write(draw, (103, y + step / 2), value, face, (25, 25, 25), marks, "rm")
    draw.line((68, 4, 68, 4 + rows * step), fill=(150, 150, 150))
    entries = dict(zip(names, values, strict=True))
    return _chart_questions(rng, "table", entries, [float(v) for v in values], "rows")


_MAKERS: dict[str, Callable[[np.random.Generator, Image.Image, Split, list[Mark]], Answered]] = {
    "bar chart": _bars,
    "line chart": _line,
    "pie chart": _pie,
    "table": _table,
}

CHART_NAMES: tuple[str, ...] = tuple(_MAKERS)
"""What a caption of a chart calls it."""


def draw_chart(rng: np.random.Generator, key: str, split: Split = "train") -> list[DemoSample]:
    """All questions about one chart or table; strings of tables come from `split` only."""
    paper = tuple(int(v) for v in rng.integers(236, 256, size=3))
    image = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), paper)
    name = pick(rng, ("bar chart", "bar chart", "line chart", "pie chart", "table"))
    marks: list[Mark] = []
    found = _MAKERS[name](rng, image, split, marks)
    if rng.random() < 0.4:
        found.append(("chart", ask(rng, "chart_kind"), name, {"form": "kind"}))
    if rng.random() < 0.3:
        found.append(
            (
                "caption",
                ask(rng, "caption"),
                f"The image shows a {name} drawn on light paper.",
                {"names": [name]},
            )
        )
    meta = {"family": "charts", "chart": name, "marks": as_meta(marks)}
    return samples_of(image, key, found, style="plain", meta=meta)
