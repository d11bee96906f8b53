"""Greedy answers of a VLM, in batches; an answer does not depend on its batch (padding is masked, on the left)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from emt_core.models.encoders.vlm import CONCATENATES_VISION
from emt_core.models.vlm.chat import image_options

if TYPE_CHECKING:
    from emt_core.evaluation.questions.question import Question
    from emt_core.models.encoders.base import Precision


class Answerer:
    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        max_new_tokens: int = 32,
        max_image_pixels: int = 768 * 768,
    ) -> None:
        """model: folder or hub name. Raises EmtError where it cannot be loaded."""
        from emt_core.models.encoders.base import choose_device, choose_dtype
        from emt_core.models.vlm.load import load_processor, load_vlm

        self.device = choose_device(device)
        self.processor = load_processor(model, revision)
        self.processor.tokenizer.padding_side = "left"
        vlm: Any = load_vlm(model, revision)
        self.vlm = vlm.to(self.device, choose_dtype(precision, self.device)).eval()
        self.max_new_tokens = max_new_tokens
        self._options = image_options(
            getattr(self.processor, "image_processor", None), max_image_pixels
        )
        self.batches = self.vlm.config.model_type in CONCATENATES_VISION

    def answers(self, questions: Sequence[Question]) -> list[str]:
        """One answer a question, special tokens left out."""
        if len(questions) > 1 and not self.batches:
            return [answer for question in questions for answer in self.answers([question])]
        import torch

        texts, images = [], []
        for question in questions:
            mine = question.images()
            content: list[dict[str, str]] = [{"type": "image"} for _ in mine]
            content.append({"type": "text", "text": question.text})
            texts.append(
                self.processor.apply_chat_template(
                    [{"role": "user", "content": content}],
                    tokenize=False,
                    add_generation_prompt=True,
                )
            )
            images += mine
        bos = self.processor.tokenizer.bos_token
        inputs = self.processor(
            text=texts,
            images=images or None,
            padding=True,
            return_tensors="pt",
            add_special_tokens=not (bos and texts[0].startswith(bos)),
            **(self._options if images else {}),
        ).to(self.device)
        inputs = {
            name: value.to(self.vlm.dtype) if value.is_floating_point() else value
            for name, value in inputs.items()
        }
        with torch.inference_mode():
            out = self.vlm.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=self.max_new_tokens,
                pad_token_id=self.processor.tokenizer.pad_token_id,
            )
        new = out[:, inputs["input_ids"].shape[1] :]
        return self.processor.batch_decode(new, skip_special_tokens=True)
