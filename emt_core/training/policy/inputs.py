"""Images and instructions -> what the VLM takes, with one place at the end for the query.

An instruction's tokens are worked out once, with a blank picture of the training size: all frames have that size, so
all prompts hold the same number of image tokens. Pictures go through the processor as one batch, on the model's device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.models.vlm.chat import CONTROL_TOKENS

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class PolicyInputs:
    """A batch of n. model: arguments of the decoder stack, `input_ids` and `attention_mask` int64 [n, tokens] among
    them; query_at: int64 [n], the query's place."""

    model: dict[str, torch.Tensor]
    query_at: torch.Tensor


class PromptBuilder:
    def __init__(
        self, processor: Any, *, system: str, prompt: str, image_size: int, max_text_tokens: int
    ) -> None:
        """prompt: user text after the image, holding {instruction}. image_size: side of the frames, pixels."""
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.system, self.prompt, self.image_size = system, prompt, image_size
        self.max_text_tokens = max_text_tokens
        images = processor.image_processor
        # InternVL's tiles by default: 13 tiles, 3,328 tokens for one image at 448 px
        self._options = {"crop_to_patches": False} if hasattr(images, "crop_to_patches") else {}
        holders = (processor, self.tokenizer)
        named = {getattr(holder, name, None) for holder in holders for name in CONTROL_TOKENS}
        self._control = tuple(
            sorted({token for token in named if token} | {"<|im_start|>", "<|im_end|>"})
        )
        self._tokens: dict[str, dict[str, np.ndarray]] = {}
        self._vision: tuple[
            str, ...
        ] = ()  # what the processor as a whole passes on to the model about pictures

    def tokens(self, instruction: str) -> dict[str, np.ndarray]:
        """`input_ids` and its like, int64 [tokens + 1]: the last place is the query's."""
        if instruction not in self._tokens:
            if len(self._tokens) > 100_000:  # free text from a network must not fill the memory
                self._tokens.clear()
            self._tokens[instruction] = self._tokenize(instruction)
        return self._tokens[instruction]

    def _tokenize(self, instruction: str) -> dict[str, np.ndarray]:
        from PIL import Image

        text = self.prompt.replace("{instruction}", self._plain(instruction))
        system = (
            [{"role": "system", "content": [{"type": "text", "text": self.system}]}]
            if self.system
            else []
        )
        user = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
        # the query stands where the answer would begin
        chat = self.processor.apply_chat_template(
            [*system, *user], tokenize=False, add_generation_prompt=True
        )
        blank = Image.new("RGB", (self.image_size, self.image_size))
        bos = self.tokenizer.bos_token
        inputs = self.processor(
            text=[chat],
            images=[blank],
            return_tensors="np",
            add_special_tokens=not (bos and chat.startswith(bos)),  # the template wrote it already
            **self._options,
        )
        length = np.asarray(inputs["input_ids"]).shape[1]
        found, vision = {}, []
        for name, value in inputs.items():
            array = np.asarray(value)
            if array.shape[:2] != (1, length):
                vision.append(name)
            elif name != "attention_mask":
                # The query's own id is never looked up (query.py); the end token stands for it because no model
                # takes that for an image. Its token type is text.
                last = self.tokenizer.eos_token_id if name == "input_ids" else 0
                found[name] = np.append(array[0], last).astype(np.int64)
        self._vision = tuple(vision)
        return found

    def _plain(self, instruction: str) -> str:
        """Data text must not open images or turns; its end is cut where it is too long."""
        for token in self._control:
            instruction = instruction.replace(token, token[0] + " " + token[1:])
        spans = self.tokenizer(instruction, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        if len(spans) <= self.max_text_tokens:
            return instruction
        return instruction[: spans[self.max_text_tokens][0]].rstrip()

    def batch(self, frames: torch.Tensor, instructions: Sequence[str]) -> PolicyInputs:
        """frames: uint8 [n, 3, image_size, image_size], on the model's device. Padding is on the right."""
        import torch

        if len(frames) != len(instructions):
            raise EmtError(
                f"{len(frames)} images and {len(instructions)} instructions",
                remedy="give one for each",
            )
        rows = [self.tokens(instruction) for instruction in instructions]
        lengths = np.array([len(row["input_ids"]) for row in rows])
        longest = int(lengths.max())
        fill = {"input_ids": self.tokenizer.pad_token_id or 0}
        model: dict[str, torch.Tensor] = {}
        for name in rows[0]:
            padded = np.full((len(rows), longest), fill.get(name, 0), np.int64)
            for place, row in enumerate(rows):
                padded[place, : lengths[place]] = row[name]
            model[name] = torch.from_numpy(padded).to(frames.device)
        mask = np.arange(longest) < lengths[:, None]
        model["attention_mask"] = torch.from_numpy(mask.astype(np.int64)).to(frames.device)
        pictures = self.processor.image_processor(
            images=list(frames), return_tensors="pt", **self._options
        )
        for name in self._vision:
            model[name] = pictures[name].to(frames.device)
        return PolicyInputs(model=model, query_at=torch.from_numpy(lengths - 1).to(frames.device))
