"""Tiny random VLMs of both supported classes, saved as real folders: config, processor, tokenizer,
safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'IMAGE' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


CLIP_CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
"""An open_clip model of a few thousand parameters."""


def byte_tokenizer(special: dict[str, str], template: str, padding_side: str = "left"):
    """One token a byte: no file to fetch, every text has a known length."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *special.values()]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate([*names, *letters])}, merges=[])
    )
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(names)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side=padding_side,
        chat_template=template,
        extra_special_tokens=special,
    )


def save_internvl(folder: Path, seed: int = 0, *, pixels: int = 56) -> Path:
    """56 px, patches of 7: 64 patches, 16 visual tokens an image (224 px: 256 of them); 48 wide."""
    import torch
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
        Qwen3Config,
    )
    from transformers.models.internvl import InternVLVisionConfig

    template = CHAT_TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>\n")
    tokenizer = byte_tokenizer(
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        template,
    )
    side, visual_tokens = {"height": pixels, "width": pixels}, (pixels // 14) ** 2
    processor = InternVLProcessor(
        # the real one tiles by default; so does this one, or the test would not see whether we turn
        # it off
        image_processor=GotOcr2ImageProcessor(
            size=side, crop_to_patches=True, min_patches=1, max_patches=12
        ),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=side),
        image_seq_length=visual_tokens,
        chat_template=template,
    )
    torch.manual_seed(seed)
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=(pixels, pixels),
            patch_size=(7, 7),
        ),
        text_config=Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            intermediate_size=64,
            max_position_embeddings=2048,
        ),
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=visual_tokens,
        downsample_ratio=0.5,
    )
    return _save(InternVLForConditionalGeneration(config), processor, folder)


def save_qwen3_vl(folder: Path, seed: int = 0) -> Path:
    """Patches of 8, merged 2 x 2, between 256 and 4,096 pixels an image: 1 to 16 visual tokens; 48
    wide; DeepStack."""
    import torch
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    template = CHAT_TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    tokenizer = byte_tokenizer(
        {
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "vision_start_token": "<|vision_start|>",
            "vision_end_token": "<|vision_end|>",
        },
        template,
    )
    patches = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=256, max_pixels=4096, **patches),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**patches),
        chat_template=template,
    )
    torch.manual_seed(seed)
    config = Qwen3VLConfig(
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 48,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "intermediate_size": 64,
            "max_position_embeddings": 2048,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 2, 2],
            },
        },
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.vision_start_token_id,
        vision_end_token_id=tokenizer.vision_end_token_id,
    )
    return _save(Qwen3VLForConditionalGeneration(config), processor, folder)


def _save(model, processor, folder: Path) -> Path:
    import torch

    with (
        torch.no_grad()
    ):  # 0.02, the default deviation, leaves all samples nearly alike: no proof of anything
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_clip(folder: Path, **preprocess: Any) -> Path:
    """A tiny CLIP model with random weights, as open_clip reads it from a folder.

    preprocess: as in open_clip's `preprocess_cfg`.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**CLIP_CONFIG)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": CLIP_CONFIG, "preprocess_cfg": preprocess})
    )
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder
