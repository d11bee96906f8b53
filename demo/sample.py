"""One question about one image: what every generator of the demo's pool yields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from PIL import Image

Kind = Literal[
    "caption", "count", "colour", "read", "chart", "spatial", "point", "affordance", "robot"
]
Style = Literal["plain", "sim"]
Content = Literal["embodied", "general"]

Answered = list[tuple[Kind, str, str, dict[str, Any]]]
"""(kind, question, exact answer, meta) of each question about one image."""


EMBODIED_KINDS: frozenset[str] = frozenset({"spatial", "point", "affordance", "robot"})
"""Kinds that ask where things are or what a robot could do; the others only describe, read or
count."""


@dataclass(frozen=True, kw_only=True)
class DemoSample:
    """A question, its exact answer and the image it is about.

    `style` says who drew the pixels and `content` what is asked: the demo crosses the two, so that
    a proximity estimator cannot score by recognising a renderer.
    """

    image: Image.Image
    """RGB, IMAGE_SIZE x IMAGE_SIZE."""
    image_key: str
    """Names the image, unique per drawing; samples that share an image share the key."""
    question: str
    """Without an image placeholder: whoever writes a data set puts its own."""
    answer: str
    """Ground truth. Points are "(x, y)": fractions of width and height in [0, 1], two decimals,
    origin top left."""
    kind: Kind
    style: Style
    meta: dict[str, Any] = field(default_factory=dict)
    """Plain JSON values that tests and the probe need (what was drawn where, family name, further
    turns)."""

    @property
    def content(self) -> Content:
        return "embodied" if self.kind in EMBODIED_KINDS else "general"

    @property
    def turns(self) -> list[tuple[str, str]]:
        """All (question, answer) pairs of the conversation, the first one included."""
        return [(self.question, self.answer), *((q, a) for q, a in self.meta.get("more_turns", []))]


def samples_of(
    image: Image.Image, image_key: str, found: Answered, *, style: Style, meta: dict[str, Any]
) -> list[DemoSample]:
    """A sample a question, all of one image and with the image's own meta (a question's entries
    stand over it)."""
    return [
        DemoSample(
            image=image,
            image_key=image_key,
            question=question,
            answer=answer,
            kind=kind,
            style=style,
            meta={**meta, **more},
        )
        for kind, question, answer, more in found
    ]
