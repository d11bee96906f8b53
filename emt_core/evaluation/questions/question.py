"""One question and how its answer is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emt_core.data.images.handles import ImageProblem
from emt_core.data.paths import PathLeavesRoot, inside
from emt_core.errors import EmtError

if TYPE_CHECKING:
    from PIL import Image

Judge = Literal["yes_no", "choice", "demo"]
MAX_PIXELS = 50_000_000


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image inside a file's row (bytes), or a file below a folder. From outside: decoded within bounds."""

    content: bytes | None = None
    root: Path | None = None
    name: str = ""

    def open(self) -> Image.Image:
        """RGB. Raises EmtError where it is missing, leaves its folder or cannot be decoded."""
        import io

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
                remedy="check `images` of the suite: the folder that its file's names are relative to",
            ) from problem


@dataclass(frozen=True, kw_only=True)
class Question:
    id: str
    category: str
    text: str
    """What the model is asked, answer format included."""

    answer: str
    """`yes` or `no`; a letter; or what the demo's generator says."""

    judge: Judge
    pictures: tuple[Picture, ...] = ()
    image: Image.Image | None = None
    """A picture that was drawn a moment ago, instead of `pictures`."""

    options: dict[str, str] = field(default_factory=dict)
    """Letter -> text of a choice; empty where the question's text has them in it."""

    drawn: object = None
    """demo: the DemoSample that knows which answers are right."""

    def images(self) -> list[Image.Image]:
        return (
            [self.image]
            if self.image is not None
            else [picture.open() for picture in self.pictures]
        )
