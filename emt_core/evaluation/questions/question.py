"""One question, its images and how its answer is judged."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emt_core.data.images.handles import ImageProblem
from emt_core.data.paths import PathLeavesRoot, inside
from emt_core.errors import EmtError

if TYPE_CHECKING:
    from PIL import Image

Judge = Literal["yes_no", "choice", "exact", "names", "point"]
MAX_PIXELS = 50_000_000
"""Larger images of questions are refused."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image inside a file's row (`content`), or a file below a folder (`root` and `name`)."""

    content: bytes | None = None
    root: Path | None = None
    name: str = ""

    def open(self) -> Image.Image:
        """Decode to RGB. Raises EmtError where it is missing, leaves its folder or is no image."""
        from emt_core.data.images.decode import decode_image

        try:
            if self.content is not None:
                return decode_image(io.BytesIO(self.content), MAX_PIXELS)
            assert self.root is not None
            with inside(self.root, self.name).open("rb") as file:
                return decode_image(file, MAX_PIXELS)
        except (ImageProblem, PathLeavesRoot, OSError) as problem:
            raise EmtError(
                f"an image of a question cannot be had ({problem})",
                where=self.name or "inside the file",
                remedy="check `images` of the suite: the folder that its names are relative to",
            ) from problem


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a model is asked, and what `scoring.is_right` needs to judge its answer."""

    id: str
    category: str
    text: str
    """What the model is asked, answer format included."""

    answer: str
    """`yes` or `no` (judge yes_no), a letter (choice), or the right answer in words."""

    judge: Judge
    pictures: tuple[Picture, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    """choice: letter -> text; empty where the question's text has them in it."""

    names: frozenset[str] = frozenset()
    """names: what a right answer names, no more and no less of `vocabulary`."""

    vocabulary: tuple[str, ...] = ()
    """names: everything that can be named, each with its other forms: `goose|geese`."""

    point: tuple[float, float] = (0.0, 0.0)
    """point: (x, y) as fractions of width and height, origin top left."""

    tolerance: float = 0.0
    """point: largest distance from `point` that still counts as right, in the same fractions."""

    def images(self) -> list[Image.Image]:
        """Decode its pictures, in order. Raises EmtError where one cannot be had."""
        return [picture.open() for picture in self.pictures]
