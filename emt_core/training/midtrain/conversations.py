"""A sample -> the model's inputs with a label mask: loss on the assistant's words and on nothing else.

The mask comes from the model's own chat template. The conversation is rendered as a whole; an assistant turn is what
the template adds between "everything before, with the generation prompt" and "everything up to and with this turn".
What counts as the turn's end (`<|im_end|>`) is learned, the blank after it is not.

Beyond the cutoff, text is cut at the end; image tokens are never cut (half an image has no meaning, and the model
refuses it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.models.vlm.chat import CONTROL_TOKENS, IMAGE, Message, chat_messages, image_options

if TYPE_CHECKING:
    from PIL import Image

    from emt_core.data.sample import Sample

IGNORE = -100
"""Label of a token that is not learned."""

IMAGE_TOKENS = (
    "image_token",
    "video_token",
    "start_image_token",
    "end_image_token",
    "vision_start_token",
    "vision_end_token",
)


class Refused(Exception):
    """A sample that cannot be trained on: a reason to count it under, and a detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


REASONS = {
    "no_supervised_token": "after truncation no word of the assistant is left",
    "images_exceed_cutoff": "the image tokens alone fill the cutoff length",
    "too_many_images": "the sample has more images than midtrain.max_images",
    "image_refused": "the model's processor cannot take the image",
    "text_refused": "the model's processor cannot take the text",
    "no_question": "the conversation begins with the assistant: nothing is there that it could answer",
    "template_refused": "the model's chat template cannot write the conversation",
    "template_not_understood": "what the assistant says cannot be told in what the template writes",
}
"""Why a selected sample is not trained on, beside the reasons of REJECT_REASONS about its images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingItem:
    """One sample. tokens: int64 [length] arrays by name (`input_ids`, ...); labels: int64 [length], IGNORE where not
    learned; vision: arrays that a batch concatenates along the first axis."""

    id: str
    tokens: dict[str, np.ndarray]
    labels: np.ndarray
    vision: dict[str, np.ndarray]

    @property
    def length(self) -> int:
        return len(self.labels)


class ConversationPreparer:
    """The CPU half of training: no model, small enough to go to a worker process."""

    def __init__(
        self, processor: Any, *, cutoff: int, max_tiles: int = 1, max_image_pixels: int = 768 * 768
    ) -> None:
        """processor: of an InternVL- or Qwen3-VL-class model. cutoff: longest sequence, tokens."""
        self.processor, self.tokenizer, self.cutoff = processor, processor.tokenizer, cutoff
        self.image_options = image_options(
            getattr(processor, "image_processor", None), max_image_pixels
        )
        if max_tiles > 1 and "crop_to_patches" in self.image_options:
            self.image_options = {
                "crop_to_patches": True,
                "min_patches": 1,
                "max_patches": max_tiles,
            }
        holders = (processor, self.tokenizer)
        control = {getattr(holder, name, None) for holder in holders for name in CONTROL_TOKENS}
        self._control = tuple(
            sorted({token for token in control if token} | {"<|im_start|>", "<|im_end|>"})
        )
        image = {getattr(holder, name, None) for holder in holders for name in IMAGE_TOKENS}
        names = [token for token in image if token]
        self.image_ids = np.array(sorted(self.tokenizer.convert_tokens_to_ids(names)), np.int64)

    def prepare(self, sample: Sample, images: Sequence[Image.Image]) -> TrainingItem:
        """Raises Refused where nothing can be learned from it, EmtError where the template is not understood."""
        messages = [self._plain(message) for message in chat_messages(sample, len(images), "full")]
        if messages and messages[0].role == "assistant":
            raise Refused(
                "no_question"
            )  # the question was empty; an answer to nothing teaches to talk unasked
        text = self.render(messages)
        inputs = self._process(text, images)
        ids = np.asarray(inputs["input_ids"], np.int64)[0]
        labels = self._labels(messages, text, ids)
        keep = self._within_cutoff(ids)
        if not (
            labels[keep][1:] != IGNORE
        ).any():  # the first token has nothing before it to be told from
            raise Refused("no_supervised_token", f"{len(ids)} tokens, cut at {self.cutoff}")
        tokens, vision = {}, {}
        for name, value in inputs.items():
            array = np.asarray(value)
            if array.shape[:2] != (1, len(ids)):
                vision[name] = array
            elif name != "attention_mask":
                tokens[name] = array[0][keep].astype(np.int64)
        return TrainingItem(id=sample.id, tokens=tokens, labels=labels[keep], vision=vision)

    def render(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        """The conversation as the model's template writes it; prompt: with the beginning of an answer. Raises Refused
        where the template cannot."""
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
        try:
            return self.processor.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=prompt
            )
        except Exception as error:  # a template is a program of the model's: it may raise anything
            raise Refused("template_refused", f"{type(error).__name__}: {error}") from error

    def answer_spans(self, messages: Sequence[Message], text: str) -> list[tuple[int, int]]:
        """Where in the rendered text the assistant's turns lie, end marks included."""
        spans = []
        for place, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self.render(messages[:place], prompt=True)
            upto = self.render(messages[: place + 1])
            if (
                not text.startswith(before)
                or not text.startswith(upto.rstrip())
                or len(upto) <= len(before)
            ):
                raise EmtError(
                    "the chat template does not write a conversation turn by turn, so what the assistant says in it"
                    " cannot be told",
                    where=type(self.processor).__name__,
                    remedy="use the model's instruct version; `emt check-model` shows what its template writes",
                )
            spans.append((len(before), len(upto.rstrip())))
        return spans

    def _plain(self, message: Message) -> Message:
        """Data text must not open images or turns."""
        parts = []
        for part in message.parts:
            if part is not None:  # IMAGE
                for token in self._control:
                    part = part.replace(token, token[0] + " " + token[1:])
            parts.append(part)
        return Message(message.role, tuple(parts))

    def _process(self, text: str, images: Sequence[Image.Image]) -> Any:
        try:
            return self.processor(
                text=[text],
                images=list(images) or None,
                return_tensors="np",
                add_special_tokens=self._adds_special(text),
                **(self.image_options if images else {}),
            )
        except ValueError as error:  # Qwen's has no grid for an aspect ratio above 200, for one
            raise Refused("image_refused" if images else "text_refused", str(error)) from error

    def _adds_special(self, text: str) -> bool:
        bos = self.tokenizer.bos_token
        return not (bos and text.startswith(bos))  # the template wrote it already

    def _labels(self, messages: Sequence[Message], text: str, ids: np.ndarray) -> np.ndarray:
        """int64 [tokens]. The text is tokenised once more with its place in the characters; apart from images, which
        the processor has blown up to many tokens, both are the same sequence."""
        spans = self.answer_spans(messages, text)
        found = self.tokenizer(
            text, add_special_tokens=self._adds_special(text), return_offsets_mapping=True
        )
        plain = np.asarray(found["input_ids"], np.int64)
        starts = np.asarray(found["offset_mapping"], np.int64)[:, 0]
        ends = np.asarray(found["offset_mapping"], np.int64)[:, 1]
        learned = np.zeros(len(plain), bool)
        for start, end in spans:
            learned |= (starts >= start) & (ends <= end) & (ends > starts)
        words, words_plain = ~np.isin(ids, self.image_ids), ~np.isin(plain, self.image_ids)
        if not np.array_equal(ids[words], plain[words_plain]):
            raise EmtError(
                "the processor changes text beside the images, so answers cannot be told from questions",
                where=type(self.processor).__name__,
                remedy="supported are InternVL- and Qwen3-VL-class models",
            )
        mask = np.zeros(len(ids), bool)
        mask[words] = learned[words_plain]
        return np.where(mask, ids, IGNORE)

    def _within_cutoff(self, ids: np.ndarray) -> np.ndarray:
        """bool [tokens]: every image token, and the first text tokens that have room beside them."""
        of_image = np.isin(ids, self.image_ids)
        room = self.cutoff - int(of_image.sum())
        if room <= 0:
            raise Refused(
                "images_exceed_cutoff", f"{int(of_image.sum())} image tokens, cutoff {self.cutoff}"
            )
        return of_image | (np.cumsum(~of_image) <= room)
