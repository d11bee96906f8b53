"""What a recipe says about features (method section 2)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from emt_core.recipe.base import MAX_IMAGE_PIXELS, Attention, StageConfig


class EmbedConfig(StageConfig):
    ADDED = frozenset({"attn_implementation"})

    encoder: Literal["vlm", "clip", "fake"] = "vlm"
    """`vlm`: last hidden state of a frozen VLM. `clip`: open_clip's image tower. `fake`: tests."""

    model: str = ""
    """Hub name or folder of the model. For clip `architecture[/pretrained-tag-or-file]`."""

    revision: str | None = None
    """Hub revision; None takes the newest and records which commit that was."""

    pooling: Literal["last", "mean"] = "mean"
    """One vector from the tokens: mean of all but padding, or the last. The paper does not say."""

    pool_text: Literal["none", "user", "full"] = "user"
    """Text given with pool images. `full` includes the answers."""

    robot_text: Literal["none", "instruction"] = "instruction"
    """Text given with robot frames. No template is added: one that only robots have would let a
    classifier cheat."""

    max_images: int = Field(default=4, ge=1)
    """Most images of a sample that are embedded; others are counted as `images_beyond_bound`."""

    max_image_pixels: int = Field(default=MAX_IMAGE_PIXELS, ge=1024)
    """Larger images are scaled down to this by processors that keep an image's own size (Qwen; the
    default is LLaMA-Factory's). InternVL's and CLIP's have one fixed size."""

    cutoff: int = Field(default=2048, ge=16)
    """Longest sequence in tokens, images included. Text beyond it is cut at the end; image tokens
    never are, so a sample whose images fill it is embedded without its text."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Weights and arithmetic of the encoder. auto: bfloat16 on a GPU that has it, and
    for models of 100 million parameters or more on a CPU that has it, else float32; as
    the run finds it that begins the artifact."""

    attn_implementation: Attention = "auto"
    """encoder vlm: the attention kernel, by transformers' name. `auto`: the model's own choice,
    `sdpa` for those that have it. `flash_attention_2` needs flash_attn, a GPU and bfloat16."""

    @model_validator(mode="after")
    def _consistent_arithmetic(self) -> EmbedConfig:
        if self.attn_implementation != "auto" and self.encoder != "vlm":
            raise ValueError("attn_implementation goes with `encoder: vlm`")
        if self.attn_implementation == "flash_attention_2" and self.precision == "float32":
            raise ValueError("flash_attention_2 needs bfloat16: `precision` cannot be float32")
        return self
