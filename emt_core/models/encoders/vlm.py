"""Last hidden state of a frozen VLM (method section 2), through transformers' own processor and classes.

Supported and tested: InternVL-class (`InternVLForConditionalGeneration`) and Qwen3-VL-class
(`Qwen3VLForConditionalGeneration`) models, by hub name or folder. Any other `AutoModelForImageTextToText` whose
processor has a chat template runs one sample a forward pass: how its vision inputs are batched is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from emt_core.errors import EmtError
from emt_core.models.encoders.base import (
    ImageRefused,
    Precision,
    Prepared,
    TextMode,
    choose_device,
    choose_dtype,
)
from emt_core.models.encoders.pooling import pool
from emt_core.models.vlm.chat import (
    CONTROL_TOKENS,
    IMAGE,
    Message,
    chat_messages,
    cut_text,
    image_options,
)

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from emt_core.data.sample import Sample

CONCATENATES_VISION = frozenset({"internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"})
"""Model types whose vision inputs lie along the first axis for a whole batch: tiles (InternVL), flattened patches and
one grid an image (Qwen). Never sliced by batch index."""


class VlmEncoder:
    takes_text_only = True

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        pooling: Literal["mean", "last"] = "mean",
        max_text_tokens: int = 512,
        max_image_pixels: int = 768 * 768,
        padding_side: Literal["right", "left"] = "right",
    ) -> None:
        """Loads the processor only. padding_side changes no vector; right keeps positions and causal masks plain."""
        self.name, self.revision = model, revision
        self.pooling: Literal["mean", "last"] = pooling
        self.max_text_tokens, self.padding_side = max_text_tokens, padding_side
        self._model: Any = None
        self.processor = _load("processor", model, revision)
        self.tokenizer = self.processor.tokenizer
        if not getattr(self.processor, "chat_template", None):
            raise EmtError(
                "the model's processor has no chat template",
                where=model,
                remedy="use a chat (instruct) model",
            )
        self._image_options = image_options(
            getattr(self.processor, "image_processor", None), max_image_pixels
        )
        holders = (self.processor, self.tokenizer)
        named = {getattr(holder, name, None) for holder in holders for name in CONTROL_TOKENS}
        self._control = tuple(
            sorted({token for token in named if token} | {"<|im_start|>", "<|im_end|>"})
        )

    # ---- CPU half

    def prepare(self, sample: Sample, images: Sequence[Image.Image], text: TextMode) -> Prepared:
        """input_ids (and friends) [tokens], pixel values and grids of this sample alone, never padded."""
        messages = cut_text(
            chat_messages(sample, len(images), text), self.max_text_tokens, self._cut
        )
        prompt = self._prompt(messages)
        bos = self.tokenizer.bos_token
        try:
            inputs = self.processor(
                text=[prompt],
                images=list(images) or None,
                return_tensors="pt",
                add_special_tokens=not (
                    bos and prompt.startswith(bos)
                ),  # the template wrote it already
                **(self._image_options if images else {}),
            )
        except ValueError as error:  # Qwen's has no grid for an aspect ratio above 200, for one
            if images:
                raise ImageRefused(str(error)) from error
            raise
        length = inputs["input_ids"].shape[1]
        tokens, vision = {}, {}
        for name, value in inputs.items():
            if name == "attention_mask":
                continue
            array = np.asarray(value)
            if array.shape[:2] == (1, length):
                tokens[name] = array[0]
            else:
                vision[name] = array
        return Prepared(length=length, tokens=tokens, vision=vision)

    def _prompt(self, messages: Sequence[Message]) -> str:
        chat = [
            {
                "role": message.role,
                "content": [
                    {"type": "image"} if part is IMAGE else {"type": "text", "text": part}
                    for part in message.parts
                ],
            }
            for message in messages
        ]
        # `last` reads the place where the answer would begin; without the prompt it would read the line end behind
        # the turn, whose only job is to announce the next turn
        return self.processor.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=self.pooling == "last"
        )

    def _cut(self, text: str, room: int) -> tuple[str, int]:
        for token in self._control:  # data text must not open images or turns
            text = text.replace(token, token[0] + " " + token[1:])
        spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        if len(spans) <= room:
            return text, len(spans)
        return text[: spans[room][0]].rstrip(), room  # where the first token without room begins

    # ---- model half

    def load(self, device: str, precision: Precision) -> None:
        self.device = choose_device(device)
        self.dtype = choose_dtype(precision, self.device)
        model = _load("model", self.name, self.revision, dtype=self.dtype)
        self._model = model.to(self.device).eval().requires_grad_(False)
        # the decoder stack with its vision tower, without the head: no [tokens, vocabulary] logits are ever made
        self._decoder = getattr(model, "model", None) or model.base_model

    @property
    def model_type(self) -> str:
        return self._loaded().config.model_type

    @property
    def dim(self) -> int:
        config = self._loaded().config
        return (getattr(config, "text_config", None) or config).hidden_size

    def encode(self, prepared: Sequence[Prepared]) -> np.ndarray:
        import torch

        if self.model_type not in CONCATENATES_VISION and len(prepared) > 1:
            return np.concatenate([self.encode([item]) for item in prepared])
        inputs, mask = self._collate(prepared)
        with torch.inference_mode():
            hidden = self._decoder(**inputs, attention_mask=mask, use_cache=False).last_hidden_state
            return pool(hidden, mask, self.pooling).cpu().numpy()

    def _collate(
        self, prepared: Sequence[Prepared]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Model inputs and the mask [n, tokens]; the names and dtypes are the processor's."""
        import torch

        longest = max(item.length for item in prepared)
        fill = {"input_ids": self.tokenizer.pad_token_id or 0}
        inputs: dict[str, torch.Tensor] = {}
        mask = torch.zeros(len(prepared), longest, dtype=torch.long)
        spans = [
            slice(0, item.length)
            if self.padding_side == "right"
            else slice(longest - item.length, longest)
            for item in prepared
        ]
        for row, span in enumerate(spans):
            mask[row, span] = 1
        for name in prepared[0].tokens:
            first = torch.from_numpy(prepared[0].tokens[name])
            padded = torch.full((len(prepared), longest), fill.get(name, 0), dtype=first.dtype)
            for row, (item, span) in enumerate(zip(prepared, spans, strict=True)):
                padded[row, span] = torch.from_numpy(item.tokens[name])
            inputs[name] = padded.to(self.device)
        for name in sorted({name for item in prepared for name in item.vision}):
            parts = [
                torch.from_numpy(item.vision[name]) for item in prepared if name in item.vision
            ]
            whole = torch.cat(parts).to(self.device)
            inputs[name] = whole.to(self.dtype) if whole.is_floating_point() else whole
        return inputs, mask.to(self.device)

    def describe(self) -> dict[str, Any]:
        model = self._loaded()
        return {
            "encoder": "vlm",
            "class": type(model).__name__,
            "model_type": self.model_type,
            "parameters": sum(p.numel() for p in model.parameters()),
            "dim": self.dim,
            "pooling": self.pooling,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "one_by_one": self.model_type not in CONCATENATES_VISION,
        }

    def __getstate__(self) -> dict[str, Any]:
        """What goes to a worker process: the CPU half, never the model."""
        return {**self.__dict__, "_model": None, "_decoder": None}

    def _loaded(self) -> Any:
        if self._model is None:
            raise RuntimeError("call load() first")
        return self._model


def _load(
    what: Literal["processor", "model"], name: str, revision: str | None, **options: Any
) -> Any:
    """From a folder or the hub; never remote code, never pickled weights."""
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    local = Path(name).is_dir()
    options |= {
        "trust_remote_code": False,
        "local_files_only": local,
        "revision": None if local else revision,
    }
    if what == "model":
        options["use_safetensors"] = True
    kind = AutoProcessor if what == "processor" else AutoModelForImageTextToText
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a second bar would run into the stage's own
    try:
        return kind.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise EmtError(
            f"the {what} cannot be loaded: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            where=name,
            remedy="give a folder with config, processor and safetensors files, or a hub name within reach",
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()
