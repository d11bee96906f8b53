"""What a recipe says about categories: what each sample asks for."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import field_validator

from emt_core.recipe.base import StageConfig

LEAST_EXAMPLES = 5
"""Of a category; fewer say too little."""
NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


class CategoryConfig(StageConfig):
    image_labels: bool = False
    """Also classify by image, zero-shot, with the CLIP features of this one's embed parent."""

    examples: dict[str, tuple[str, ...]] = {}
    """Categories of your own: name -> at least 5 texts, each `question` or `question => answer`. A
    known name, such as `spatial`, gets further examples."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"examples"})

    @field_validator("examples")
    @classmethod
    def _enough(cls, examples: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, texts in examples.items():
            if not NAME.fullmatch(name) or name == "unsure":
                raise ValueError(
                    f"{name!r} cannot name a category: lower-case letters, digits, - and _, "
                    "and not `unsure`"
                )
            if len({text.strip() for text in texts} - {""}) < LEAST_EXAMPLES:
                raise ValueError(f"{name}: give at least {LEAST_EXAMPLES} different texts")
        return examples

    def uses(self) -> tuple[str, ...]:
        return ("embed",) if self.image_labels else ()
