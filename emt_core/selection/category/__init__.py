"""What a sample asks for: the eight categories (and `unsure`) of selection, quotas and pages.

The labels and their boundaries are those of `tests/worlds/categories/GUIDE.md`. `classifier.py`
names them from the words of a conversation, `image.py` from the pixels, by CLIP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Side = Literal["embodied", "reading", "neither"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Category:
    """A label: display name, what an answer is in a line, its side of the paper's contrast."""

    name: str
    title: str
    explains: str
    side: Side = "neither"


# In display order. The contrast of sides is the paper's (section 5.2): high scorers ask for spatial
# grounding, low scorers read text.
CATEGORIES: Mapping[str, Category] = {
    c.name: c
    for c in (
        Category(
            name="spatial",
            title="Spatial reasoning",
            explains="A relation between things or to the viewer: left of, behind, nearer, "
            "how far, facing where.",
            side="embodied",
        ),
        Category(
            name="grounding",
            title="Grounding, pointing",
            explains="A place in the image: a point, a box, or what a given point or box holds.",
            side="embodied",
        ),
        Category(
            name="text",
            title="Text in the image",
            explains="Something read: signs, brands, book covers, documents, screens.",
            side="reading",
        ),
        Category(
            name="chart",
            title="Chart, table",
            explains="Read or computed from a chart, plot, table or infographic.",
            side="reading",
        ),
        Category(name="caption", title="Caption", explains="A description of the whole image."),
        Category(
            name="vqa",
            title="General VQA",
            explains="Anything else seen in or reasoned from the image: objects, counts, colors, "
            "activities.",
        ),
        Category(
            name="robot",
            title="Robot",
            explains="An embodied agent acting: gripper state, phase, next action, success. Robot "
            "frames are here too.",
        ),
        Category(
            name="other",
            title="Other",
            explains="Not a question about a picture: text-only chat, code, math, "
            "creative writing.",
        ),
        Category(name="unsure", title="Unsure", explains="No category is likely enough."),
    )
}


def side_of(category: str) -> Side:
    """`embodied` (spatial, grounding), `reading` (text, chart) or `neither`.

    KeyError for an unknown category.
    """
    return CATEGORIES[category].side


def of_side(side: Side) -> tuple[str, ...]:
    """Names of the categories on a side, in display order."""
    return tuple(c.name for c in CATEGORIES.values() if c.side == side)
