"""Images and instructions -> what the VLM takes, with one place at the end for the query.

An instruction's tokens are worked out once, with a blank picture of the training size: all frames
have that size, so all prompts hold the same number of image tokens. Pictures go through the
processor as one batch, on the model's device.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.models.halving import is_out_of_memory
from emt_core.models.prepared import Prepared, Refused
from emt_core.models.refusals import ProcessorFails
from emt_core.models.vlm.batch import collate, move
from emt_core.models.vlm.chat import IMAGE, Chat, Message, error_of

if TYPE_CHECKING:
    import torch

MOST_KEPT = 100_000
"""Instructions whose tokens are kept: free text from a network must not fill the memory."""


@dataclass(frozen=True, kw_only=True)
class PolicyInputs:
    """A batch of n."""

    model: dict[str, torch.Tensor]
    """Arguments of the decoder stack, `input_ids` and `attention_mask` int64 [n, tokens] among
    them."""

    query_at: torch.Tensor
    """int64 [n]: the query's place."""


class PromptBuilder:
    def __init__(
        self, processor: Any, *, system: str, prompt: str, image_size: int, cutoff: int
    ) -> None:
        """prompt: user text after the image, holding {instruction}. image_size: side of the frames,
        pixels. cutoff: longest prompt in tokens, image included and the query left out."""
        # frames have the training size already: no bound beside it
        self.chat = Chat(processor, cutoff=cutoff, max_image_pixels=sys.maxsize)
        self.system = system
        self.prompt = prompt
        self.image_size = image_size
        self._prompts: dict[str, Prepared] = {}
        # names of what the processor as a whole passes on to the model about pictures
        self._vision: tuple[str, ...] = ()

    def tokens(self, instruction: str) -> Prepared:
        """The prompt of an instruction, without pictures; the last place of its token arrays is the
        query's."""
        if instruction not in self._prompts:
            if len(self._prompts) > MOST_KEPT:
                self._prompts.clear()
            self._prompts[instruction] = self._tokenize(instruction)
        return self._prompts[instruction]

    def _tokenize(self, instruction: str) -> Prepared:
        from PIL import Image

        blank = [Image.new("RGB", (self.image_size, self.image_size))]
        # the query stands where the answer would begin
        try:
            item = self.chat.prepare_messages(self._messages(instruction), blank, prompt=True)
        except Refused as refused:
            raise error_of(refused, f"instruction {instruction!r}") from refused
        if instruction and item.length >= self.chat.cutoff:
            self._check_room()
        self._vision = tuple(item.vision)
        # The query's own id is never looked up (vla.py, _query_at); the end token stands for it
        # because no model takes that for an image. Its token type is text.
        last = {"input_ids": self.chat.tokenizer.eos_token_id}
        tokens = {
            name: np.append(array, last.get(name, 0)).astype(np.int64)
            for name, array in item.tokens.items()
        }
        return Prepared(length=item.length + 1, tokens=tokens)

    def _messages(self, instruction: str) -> list[Message]:
        text = self.prompt.replace("{instruction}", self.chat.plain(instruction))
        system = [Message("system", (self.system,))] if self.system else []
        return [*system, Message("user", (IMAGE, text))]

    def _check_room(self) -> None:
        """Raises EmtError where the cutoff has no room for a single word of an instruction."""
        bare = self.tokens("").length
        if bare > self.chat.cutoff:
            raise EmtError(
                f"a cutoff of {self.chat.cutoff} tokens leaves no room for an instruction",
                where="finetune.cutoff",
                remedy="set a larger cutoff, or a smaller image_size",
            )

    def batch(self, frames: torch.Tensor, instructions: Sequence[str]) -> PolicyInputs:
        """frames: uint8 [n, 3, image_size, image_size], on the model's device. Padding is right."""
        import torch

        if len(frames) != len(instructions):
            raise EmtError(
                f"{len(frames)} images and {len(instructions)} instructions",
                remedy="give one for each",
            )
        rows = [self.tokens(instruction) for instruction in instructions]
        model = move(collate(rows, self.chat.pad), frames.device)
        processor = self.chat.processor.image_processor
        try:
            pictures = processor(
                images=list(frames), return_tensors="pt", **self.chat.image_options
            )
        except Exception as error:
            if is_out_of_memory(error):
                raise
            # frames have one size and kind: no sample is to blame
            raise ProcessorFails(processor, error) from error
        model |= {name: pictures[name].to(frames.device) for name in self._vision}
        places = torch.tensor([row.length - 1 for row in rows], device=frames.device)
        return PolicyInputs(model=model, query_at=places)
