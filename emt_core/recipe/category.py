"""What a recipe says about categories: what each sample asks for."""

from __future__ import annotations

from emt_core.recipe.base import StageConfig


class CategoryConfig(StageConfig):
    image_labels: bool = False
    """Also classify by image, zero-shot, with the CLIP features of this one's embed parent."""

    def uses(self) -> tuple[str, ...]:
        return ("embed",) if self.image_labels else ()
