"""The tiny VLM: a plain InternVLForConditionalGeneration of about four million parameters at 112
pixels.

It has the same classes, processor and chat template as InternVL3.5-HF and is loaded by the same
code; only the sizes differ. 112 / 8 = 14 patches a side, 7 after the pixel shuffle: 49 visual
tokens an image, 16 pixels a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from emt_core.evaluation.recording.tasks import IMAGE_SIZE

if TYPE_CHECKING:
    from transformers import (
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        PreTrainedTokenizerFast,
    )

PATCH = 8
IMAGE_TOKENS = (IMAGE_SIZE // PATCH // 2) ** 2
"""Visual tokens of one image after the 0.5 pixel shuffle."""


def config(tokenizer: PreTrainedTokenizerFast) -> InternVLConfig:
    """Sizes of the model. Sources: InternVL3.5 for the shape of the parts, nothing else."""
    from transformers import InternVLConfig, Qwen3Config
    from transformers.models.internvl import InternVLVisionConfig

    vision = InternVLVisionConfig(
        hidden_size=192,
        num_hidden_layers=5,
        num_attention_heads=3,
        intermediate_size=448,
        image_size=(IMAGE_SIZE, IMAGE_SIZE),
        patch_size=(PATCH, PATCH),
        # 0.1, the default, suits 24 layers; five layers learn faster unscaled.
        layer_scale_init_value=1.0,
    )
    text = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=48,
        intermediate_size=384,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=cast("int", tokenizer.eos_token_id),
        pad_token_id=cast("int", tokenizer.pad_token_id),
    )
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=cast("int", tokenizer.context_image_token_id),
        image_seq_length=IMAGE_TOKENS,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )


def processor(tokenizer: PreTrainedTokenizerFast) -> InternVLProcessor:
    """The processor: one tile of 112 x 112 an image, never cropped into patches."""
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    # InternVLProcessor asks for crops by default, whatever the image processor says; one patch at
    # most makes that
    # harmless for callers who forget crop_to_patches=False.
    images = GotOcr2ImageProcessor(
        size=side,
        crop_to_patches=False,
        min_patches=1,
        max_patches=1,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],
    )
    return InternVLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=side),
        image_seq_length=IMAGE_TOKENS,
        chat_template=tokenizer.chat_template,
    )


def fresh_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> InternVLForConditionalGeneration:
    """A randomly initialised float32 model. Position embeddings, which InternVL starts at zero,
    start random: from zero the vision tower needs thousands of steps to tell places apart."""
    import torch
    from transformers import InternVLForConditionalGeneration

    torch.manual_seed(seed)
    model = InternVLForConditionalGeneration(config(tokenizer))
    with torch.no_grad():
        model.model.vision_tower.embeddings.position_embeddings.normal_(std=0.3)
    return model
