"""Frozen encoders: a sample -> one vector. `build_encoder` is the only place that knows which kinds there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emt_core.models.encoders.base import Encoder
    from emt_core.recipe.embed import EmbedConfig

PRELOAD: dict[str, tuple[str, ...]] = {
    "vlm": ("torch", "torchvision.transforms.v2.functional", "transformers.processing_utils"),
    "clip": ("torch", "open_clip"),
    "fake": (),
}
"""Modules that an encoder's CPU half needs: the fork server of the workers imports them while the model loads."""


def build_encoder(config: EmbedConfig, base: Path, revision: str | None = None) -> Encoder:
    """The encoder with its CPU half loaded and its model not yet. revision: the hub commit of the plan's identity."""
    if config.encoder == "fake":
        from emt_core.models.encoders.fake import FakeEncoder

        return FakeEncoder()
    if config.encoder == "clip":
        from emt_core.models.encoders.clip import ClipEncoder

        return ClipEncoder(config.model, base)
    from emt_core.models.encoders.vlm import VlmEncoder
    from emt_core.models.identity import locate_model

    return VlmEncoder(
        str(locate_model(config.model, base)),
        revision=revision or config.revision,
        pooling=config.pooling,
        max_text_tokens=config.max_text_tokens,
        max_image_pixels=config.max_image_pixels,
    )
