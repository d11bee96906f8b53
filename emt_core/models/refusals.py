"""Whose fault it is that a processor fails: a sample's, or its own.

A processor that fails is tried once more with plain input. Where it takes that, the sample is odd
and is refused alone (`Refused`); else the processor is at fault and everything stops
(`ProcessorFails`). One that refuses most samples stops too, whatever it takes (`RefusedShare`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError
from emt_core.models.prepared import Refused

if TYPE_CHECKING:
    from PIL import Image

JUDGED_FROM = 64
"""Samples that are seen before a stage is given up because of them."""

BY_PROCESSOR = ("image_refused", "text_refused")
"""Reasons that a processor gives."""


class ProcessorFails(EmtError):
    """A processor that fails on plain input too; says so in its own words."""

    def __init__(self, processor: object, error: Exception) -> None:
        super().__init__(
            f"the model's processor fails whatever it is given ({in_words(error)})",
            where=type(processor).__name__,
            remedy="take a version of the library that fits the model;"
            " `emt check-model` tries a VLM on a picture of its own",
        )


def in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def plain_picture() -> Image.Image:
    """What any processor takes."""
    from PIL import Image

    return Image.new("RGB", (224, 224), (128, 128, 128))


def takes(call: Callable[[], Any]) -> bool:
    """Whether a call ends without an error."""
    try:
        call()
    except Exception:
        return False
    return True


class RefusedShare:
    """Counts what a processor refuses, source by source."""

    def __init__(self) -> None:
        self.seen = Counter[tuple[str, bool]]()
        self.refused = Counter[tuple[str, bool]]()

    def count(self, source: str, refused: Refused | None, *, pictures: bool = True) -> None:
        """A sample that was prepared (None) or not. pictures: whether it has any; such samples are
        judged by themselves too, because among many text-only rows they would not be most.

        Raises EmtError where of JUDGED_FROM samples or more of a source the processor refused most:
        no pool has so many odd pictures or texts.
        """
        for with_pictures in (False, True) if pictures else (False,):
            kind = (source, with_pictures)
            self.seen[kind] += 1
            self.refused[kind] += refused is not None and refused.reason in BY_PROCESSOR
            if self.seen[kind] >= JUDGED_FROM and 2 * self.refused[kind] > self.seen[kind]:
                said = f" ({refused.detail})" if refused else ""
                raise EmtError(
                    f"the model's processor refuses {self.refused[kind]:,} of the first"
                    f" {self.seen[kind]:,} samples{said}",
                    where=source,
                    remedy="these samples or the processor's settings do not fit the model",
                )
