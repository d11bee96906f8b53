"""Frozen encoders: a sample -> one vector. `build_encoder` alone knows which kinds there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emt_core.models.encoders.base import Encoder
    from emt_core.recipe.embed import EmbedConfig


def build_encoder(config: EmbedConfig, base: Path, revision: str | None = None) -> Encoder:
    """The encoder, its model not loaded. revision: the hub commit of the plan's identity."""
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
        cutoff=config.cutoff,
        max_image_pixels=config.max_image_pixels,
        attention=config.attn_implementation,
    )
