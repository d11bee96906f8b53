"""Greedy answers of a VLM, in batches; an answer does not depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from emt_core.models.device import Precision, choose_dtype
from emt_core.models.prepared import Refused
from emt_core.models.vlm.batch import CONCATENATES_VISION, collate, move
from emt_core.models.vlm.chat import IMAGE, Chat, Message, error_of
from emt_core.models.vlm.load import load_processor, load_vlm
from emt_core.recipe.base import MAX_IMAGE_PIXELS
from emt_core.run.device import choose_device

if TYPE_CHECKING:
    from emt_core.evaluation.questions.question import Question


class Answerer:
    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        max_new_tokens: int = 32,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
    ) -> None:
        """model: folder or hub name. Raises EmtError where it cannot be loaded."""
        self.device = choose_device(device)
        self.chat = Chat(load_processor(model, revision), max_image_pixels=max_image_pixels)
        dtype = choose_dtype(precision, self.device)
        self.vlm = load_vlm(model, revision, device=self.device, dtype=dtype).eval()
        self.max_new_tokens = max_new_tokens
        self.batches = self.vlm.config.model_type in CONCATENATES_VISION

    def answers(self, questions: Sequence[Question]) -> list[str]:
        """One answer a question, special tokens left out."""
        if len(questions) > 1 and not self.batches:
            return [answer for question in questions for answer in self.answers([question])]
        import torch

        items = []
        for question in questions:
            images = question.images()
            parts = (*[IMAGE] * len(images), self.chat.plain(question.text))
            message = Message("user", parts)
            try:
                items.append(self.chat.prepare_messages([message], images, prompt=True))
            except Refused as refused:  # a question left out would change the rate
                raise error_of(refused, f"question {question.id}") from refused
        batch = collate(items, self.chat.pad, "left")
        inputs = move(batch, self.device, self.vlm.dtype)
        with torch.inference_mode():
            out = self.vlm.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=self.max_new_tokens,
                pad_token_id=self.chat.tokenizer.pad_token_id,
            )
        new = out[:, inputs["input_ids"].shape[1] :]
        return self.chat.processor.batch_decode(new, skip_special_tokens=True)
