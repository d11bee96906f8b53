"""Last hidden state of a frozen VLM (method section 2), through transformers' own classes.

Supported and tested: InternVL-class (`InternVLForConditionalGeneration`) and Qwen3-VL-class
(`Qwen3VLForConditionalGeneration`) models, by hub name or folder. Any other
`AutoModelForImageTextToText` whose processor has a chat template runs one sample a forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from emt_core.models.device import Precision, choose_dtype, dtype_name
from emt_core.models.prepared import Prepared, Refused
from emt_core.models.vlm.batch import CONCATENATES_VISION, collate, move
from emt_core.models.vlm.chat import PRELOAD, Chat, TextMode, error_of
from emt_core.models.vlm.load import decoder_of, load_processor, load_vlm, text_width
from emt_core.recipe.base import MAX_IMAGE_PIXELS, Attention
from emt_core.run.device import choose_device

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from emt_core.data.sample import Sample


class VlmEncoder:
    preload: tuple[str, ...] = PRELOAD
    takes_text_only = True

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        pooling: Literal["mean", "last"] = "mean",
        cutoff: int = 2048,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
        padding_side: Literal["right", "left"] = "right",
        attention: Attention = "auto",
    ) -> None:
        """Loads the processor only. padding_side changes no vector."""
        self.attention: Attention = attention
        self.name = model
        self.revision = revision
        self.pooling: Literal["mean", "last"] = pooling
        self.padding_side: Literal["right", "left"] = padding_side
        self.chat = Chat(
            load_processor(model, revision), cutoff=cutoff, max_image_pixels=max_image_pixels
        )
        self._model: Any = None

    # ---- CPU half

    def prepare(self, sample: Sample, images: Sequence[Image.Image], text: TextMode) -> Prepared:
        """input_ids (and friends) [tokens], pixel values and grids of this sample alone.

        Raises Refused for a sample that the model cannot take: no image and no words of the user
        (`empty_text`), an image or text that its processor refuses. EmtError where the template
        fails: that speaks of the model, and the other rows would most likely fare no better.
        """
        # `last` reads the place where the answer would begin; without the prompt it would read the
        # line end behind the turn, whose only job is to announce the next turn
        prompt = self.pooling == "last"
        messages = self.chat.messages(sample, len(images), text)
        if not messages:
            raise Refused("empty_text", "neither an image nor words of the user")
        try:
            return self.chat.prepare_messages(messages, images, prompt=prompt)
        except Refused as refused:
            if refused.reason == "template_refused":
                raise error_of(refused, sample.id) from refused
            raise

    # ---- model half

    def load(self, device: str, precision: Precision) -> None:
        self.device = choose_device(device)
        self.dtype = choose_dtype(precision, self.device)
        model = load_vlm(
            self.name,
            self.revision,
            device=self.device,
            dtype=self.dtype,
            attention=self.attention,
        )
        self._model = model.eval().requires_grad_(False)

    @property
    def model_type(self) -> str:
        return self._loaded().config.model_type

    @property
    def dim(self) -> int:
        return text_width(self._loaded())

    def encode(self, prepared: Sequence[Prepared]) -> np.ndarray:
        import torch

        if self.model_type not in CONCATENATES_VISION and len(prepared) > 1:
            return np.concatenate([self.encode([item]) for item in prepared])
        batch = collate(prepared, self.chat.pad, self.padding_side)
        inputs = move(batch, self.device, self.dtype)
        with torch.inference_mode():
            hidden = decoder_of(self._model)(**inputs, use_cache=False).last_hidden_state
            return pool(hidden, inputs["attention_mask"], self.pooling).cpu().numpy()

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
            "dtype": dtype_name(self.dtype),
            "one_by_one": self.model_type not in CONCATENATES_VISION,
        }

    def __getstate__(self) -> dict[str, Any]:
        """What goes to a worker process: the CPU half, never the model."""
        return {**self.__dict__, "_model": None}

    def _loaded(self) -> Any:
        if self._model is None:
            raise RuntimeError("call load() first")
        return self._model


def pool(
    hidden: torch.Tensor, mask: torch.Tensor, pooling: Literal["mean", "last"]
) -> torch.Tensor:
    """hidden [n, tokens, d], mask [n, tokens] (1: a token, 0: padding) -> float32 [n, d].

    mean: over all tokens, visual ones too, summed in float32 (bfloat16 sums lose digits).
    last: the last token that is no padding; under right padding that is not `hidden[:, -1]`.
    """
    import torch

    if pooling == "last":
        places = torch.arange(mask.shape[1], device=mask.device)
        last = (mask * places).argmax(dim=1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last].float()
    # masked_fill, not a product: a padded place may hold NaN (a query that may attend to nothing)
    total = hidden.float().masked_fill(~mask.bool().unsqueeze(-1), 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True)
