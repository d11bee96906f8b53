"""Backgrounds, colours, fonts and placement that all generators without a simulator share."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emt_core.evaluation.recording.tasks import IMAGE_SIZE

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (245, 130, 32),
    "yellow": (250, 215, 50),
    "green": (46, 150, 70),
    "blue": (45, 95, 205),
    "purple": (130, 65, 170),
    "pink": (245, 140, 185),
    "brown": (125, 80, 45),
    "black": (28, 28, 30),
    "white": (244, 244, 242),
    "grey": (135, 138, 142),
}
"""Named colours; drawn with a little jitter, far enough apart that the jitter never changes the
name."""

_FONT_ROOT = Path("/usr/share/fonts")
FONT_FILES = (
    "truetype/dejavu/DejaVuSans-Bold.ttf",
    "truetype/dejavu/DejaVuSerif-Bold.ttf",
    "truetype/dejavu/DejaVuSansMono-Bold.ttf",
    "truetype/dejavu/DejaVuSansCondensed-Bold.ttf",
    "truetype/liberation2/LiberationSans-Bold.ttf",
    "truetype/liberation2/LiberationSerif-Bold.ttf",
    "truetype/liberation2/LiberationMono-Bold.ttf",
    "truetype/lato/Lato-Bold.ttf",
    "truetype/lato/Lato-Black.ttf",
    "truetype/roboto/unhinted/RobotoTTF/Roboto-Bold.ttf",
    "truetype/roboto/unhinted/RobotoTTF/Roboto-Medium.ttf",
    "truetype/roboto/unhinted/RobotoCondensed-Bold.ttf",
    "truetype/open-sans/OpenSans-Bold.ttf",
    "truetype/crosextra/Carlito-Bold.ttf",
    "truetype/quicksand/Quicksand-Bold.ttf",
    "truetype/firacode/FiraCode-Bold.ttf",
    "truetype/freefont/FreeSerifBold.ttf",
    "opentype/cantarell/Cantarell-Bold.otf",
    "opentype/comic-neue/ComicNeue-Bold.otf",
    "opentype/linux-libertine/LinLibertine_RB.otf",
)
"""Debian families (packages in docs/tiny_vlm.md): sans, serif, slab, mono, handwriting. Needed when
the demo is built, never when it runs."""


class FontsMissing(RuntimeError):
    """The build machine lacks the fonts; running the shipped demo never needs them."""


@lru_cache(maxsize=4096)
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    path = _FONT_ROOT / name
    if not path.is_file():
        raise FontsMissing(
            f"{path} is missing: install the Debian font packages named in docs/tiny_vlm.md"
        )
    return ImageFont.truetype(str(path), size)


def random_font(rng: np.random.Generator) -> str:
    return FONT_FILES[rng.integers(len(FONT_FILES))]


def fonts_available() -> bool:
    """Whether every font that the generators draw with is installed."""
    return all(
        (_FONT_ROOT / name).is_file() for name in (*FONT_FILES, "truetype/noto/NotoColorEmoji.ttf")
    )


def shade(rng: np.random.Generator, name: str, jitter: int = 12) -> tuple[int, int, int]:
    """The named colour, each channel moved by at most `jitter`."""
    moved = np.asarray(COLORS[name]) + rng.integers(-jitter, jitter + 1, size=3)
    r, g, b = np.clip(moved, 0, 255).tolist()
    return (r, g, b)


def pick(rng: np.random.Generator, options):
    """One element of a sequence (numpy's own choice would turn strings into numpy scalars)."""
    return options[int(rng.integers(len(options)))]


def contrast(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    """Difference of luma, 0 to 255."""
    weights = np.array([0.299, 0.587, 0.114])
    return float(abs((np.asarray(a) - np.asarray(b)) @ weights))


def background(rng: np.random.Generator) -> tuple[Image.Image, str | None]:
    """A smooth, compressible background and its colour's name, or None where it has no single
    colour."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    kind = rng.random()
    if kind < 0.35:
        name = pick(rng, list(COLORS))
        return Image.new("RGB", size, shade(rng, name)), name
    if kind < 0.55:  # one colour, lit from one side
        name = pick(rng, ["red", "green", "blue", "purple", "grey", "brown"])
        base = np.asarray(shade(rng, name), dtype=np.float32)
        ramp = np.linspace(0.85, 1.12, IMAGE_SIZE, dtype=np.float32)
        ramp = ramp[::-1] if rng.random() < 0.5 else ramp
        field = ramp[:, None] if rng.random() < 0.5 else ramp[None, :]
        pixels = np.clip(np.broadcast_to(field, size)[..., None] * base, 0, 255)
        return Image.fromarray(pixels.astype(np.uint8)), name
    # Out-of-focus photo: a few random colours, blown up; sometimes with a horizon.
    cells = int(rng.integers(2, 6))
    coarse = rng.integers(60, 235, size=(cells, cells, 3)).astype(np.float32)
    tint = rng.integers(60, 235, size=3)
    coarse = 0.5 * coarse + 0.5 * tint
    image = Image.fromarray(coarse.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    if rng.random() < 0.4:
        floor = Image.new("RGB", size, tuple(int(c) for c in rng.integers(70, 220, size=3)))
        image.paste(floor, (0, int(rng.integers(50, 90))))
    return image, None


def place(
    rng: np.random.Generator, sizes: list[int], *, margin: int = 1, gap: int = 3, tries: int = 60
) -> list[tuple[int, int]] | None:
    """Centres (x, y) in pixels of discs of the given diameters that neither overlap nor leave the
    image.

    Returns None when `tries` draws per disc do not find room: the caller draws a smaller set.
    """
    centers: list[tuple[int, int]] = []
    for size in sizes:
        low = size // 2 + margin
        high = IMAGE_SIZE - (size + 1) // 2 - margin
        for _ in range(tries):
            x, y = (int(v) for v in rng.integers(low, high, size=2))
            if all(
                max(abs(x - a), abs(y - b)) >= (size + other) / 2 + gap
                for (a, b), other in zip(centers, sizes, strict=False)
            ):
                centers.append((x, y))
                break
        else:
            return None
    return centers


def fitted_text(
    draw: ImageDraw.ImageDraw,
    text: str,
    *,
    font_name: str,
    width: int,
    largest: int,
    smallest: int = 10,
) -> ImageFont.FreeTypeFont:
    """The font at the largest size (pixels) whose `text` is at most `width` pixels wide."""
    for size in range(largest, smallest - 1, -1):
        face = font(font_name, size)
        if draw.textlength(text, font=face) <= width:
            return face
    return font(font_name, smallest)


Mark = tuple[str, float, float]
"""What a drawing holds and where: (label, x, y) in fractions of the image. Labels are object names,
colours, shapes or single characters."""


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    face: ImageFont.FreeTypeFont,
    ink: tuple[int, int, int],
    marks: list[Mark],
    anchor: str = "mm",
) -> None:
    """Draw one line of text at `at` (Pillow's anchors) and append the centre of each character to
    `marks`."""
    draw.text(at, text, font=face, fill=ink, anchor=anchor)
    total = draw.textlength(text, font=face)
    start = at[0] - {"l": 0.0, "m": total / 2, "r": total}[anchor[0]]
    box = draw.textbbox(at, text, font=face, anchor=anchor)
    y = (box[1] + box[3]) / 2
    for i, character in enumerate(text):
        middle = (
            draw.textlength(text[:i], font=face) + draw.textlength(text[: i + 1], font=face)
        ) / 2
        marks.append((character, (start + middle) / IMAGE_SIZE, y / IMAGE_SIZE))


def as_meta(marks: list[Mark]) -> list[list]:
    """Marks as plain JSON lists, rounded to a hundredth of a pixel."""
    return [[label, round(float(x), 4), round(float(y), 4)] for label, x, y in marks]
