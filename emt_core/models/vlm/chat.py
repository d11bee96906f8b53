"""How a VLM is shown a sample: messages, chat template, control tokens, the longest sequence.

Pool and robot samples have one format; nothing is added that only one of them has.

Where images stand: one image goes first, as LLaVA's own trainer moves it (`preprocess_multimodal`),
so that its place in the text cannot tell a robot frame from a pool sample. Several images stay
where their `<image>` placeholders are. Images without a placeholder come first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from emt_core.data.sample import Sample, Speaker
from emt_core.errors import EmtError
from emt_core.models.prepared import Prepared, Refused
from emt_core.models.refusals import ProcessorFails, in_words, plain_picture, takes
from emt_core.recipe.base import MAX_IMAGE_PIXELS

if TYPE_CHECKING:
    from PIL import Image

TextMode = Literal["none", "user", "full", "instruction"]
"""Text given beside the images. `instruction` is `user` for a robot frame: its only turn."""

PRELOAD = ("torchvision.transforms.v2.functional", "transformers.processing_utils")
"""Modules that a Chat needs in a worker process."""

PLACEHOLDER = "<image>"
IMAGE = None
"""A part that stands for the next image; all other parts are text."""

Part = str | None

IMAGE_TOKENS = (
    "image_token",
    "video_token",
    "start_image_token",
    "end_image_token",
    "vision_start_token",
    "vision_end_token",
)
"""Attributes of a processor or tokenizer that name the tokens of images."""

CONTROL_TOKENS = (*IMAGE_TOKENS, "eos_token", "bos_token", "pad_token")
"""The same of all tokens that data text must not hold."""

CHAT_MARKS = ("<|im_start|>", "<|im_end|>")
"""Marks of turns in ChatML, which the models here speak."""


@dataclass(frozen=True, slots=True)
class Message:
    role: Speaker
    parts: tuple[Part, ...]


def chat_messages(sample: Sample, n_images: int, text: TextMode) -> list[Message]:
    """The conversation with `n_images` images in it (the first ones of the sample).

    none: one user message of images. user, instruction: one user message with all user turns.
    full: every turn. Empty where there is neither an image nor any text.
    """
    if text == "none":
        return [Message("user", (IMAGE,) * n_images)] if n_images else []
    turns: list[tuple[Speaker, list[Part]]] = [
        (turn.role, _split(turn.text)) for turn in sample.turns
    ]
    placed = sum(part is IMAGE for _, parts in turns for part in parts)
    placed = 0 if n_images <= 1 else min(placed, n_images)
    leading: list[Part] = [IMAGE] * (n_images - placed)
    kept: list[tuple[Speaker, list[Part]]] = []
    for role, parts in turns:
        mine: list[Part] = []
        for part in parts:
            if part is not IMAGE:
                mine.append(part)
            elif placed:
                mine.append(IMAGE)
                placed -= 1
        kept.append((role, mine))
    if text != "full":
        parts = [part for role, parts in kept for part in parts if role == "user" or part is IMAGE]
        kept = [("user", parts)]
    first = next((parts for role, parts in kept if role == "user"), None)
    if first is None:
        kept.insert(0, ("user", leading))
    else:
        first[:0] = leading
    return [Message(role, tuple(parts)) for role, parts in kept if parts]


def _split(text: str) -> list[Part]:
    """`"<image>\\nWhat is it?"` -> [IMAGE, "What is it?"]. Blanks round a placeholder go."""
    parts: list[Part] = []
    for place, piece in enumerate(text.split(PLACEHOLDER)):
        if place:
            parts.append(IMAGE)
        if piece.strip():
            parts.append(piece.strip())
    return parts


class Chat:
    """The CPU half of a VLM: its processor and what we know of it. Goes to worker processes."""

    def __init__(
        self,
        processor: Any,
        *,
        cutoff: int = sys.maxsize,
        max_tiles: int = 1,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
    ) -> None:
        """cutoff: longest sequence in tokens, images included.

        max_tiles: of one image, for processors that tile (InternVL). max_image_pixels: larger
        images are scaled down by processors that keep an image's own size (Qwen).
        """
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.cutoff = cutoff
        images = getattr(processor, "image_processor", None)
        self.image_options = image_options(images, max_tiles, max_image_pixels)
        self.pad = self.tokenizer.pad_token_id or 0
        self.control = sorted(self._named(CONTROL_TOKENS) | set(CHAT_MARKS))
        image_ids = self.tokenizer.convert_tokens_to_ids(sorted(self._named(IMAGE_TOKENS)))
        self.image_ids = np.array(sorted(image_ids), np.int64)
        self._closings: dict[bool, int] = {}

    def _named(self, attributes: Sequence[str]) -> set[str]:
        holders = (self.processor, self.tokenizer)
        tokens = {getattr(holder, name, None) for holder in holders for name in attributes}
        return {token for token in tokens if token}

    def plain(self, text: str) -> str:
        """Data text with its control tokens broken up: it must not open images or turns."""
        for token in self.control:
            text = text.replace(token, token[0] + " " + token[1:])
        return text

    def messages(self, sample: Sample, n_images: int, text: TextMode) -> list[Message]:
        """`chat_messages` of plain text."""
        return [
            Message(
                message.role,
                tuple(part if part is None else self.plain(part) for part in message.parts),
            )
            for message in chat_messages(sample, n_images, text)
        ]

    def render(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        """The conversation as the model's template writes it. Raises Refused where it cannot.

        prompt: with the beginning of an answer.
        """
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
            raise Refused("template_refused", in_words(error)) from error

    def adds_special(self, text: str) -> bool:
        """Whether the tokenizer has to write the bos token: not where the template did already."""
        bos = self.tokenizer.bos_token
        return not (bos and text.startswith(bos))

    def tokenize(self, text: str, images: Sequence[Image.Image]) -> Prepared:
        """Token arrays and vision arrays of one rendered conversation.

        Raises Refused for an odd picture or text, ProcessorFails where plain ones fare no better.
        """
        try:
            inputs = self._processed(text, images)
        except MemoryError:
            raise
        except Exception as error:  # Qwen's has no grid for an aspect ratio above 200, for one
            raise self._refusal(text, len(images), error) from error
        arrays = {n: np.asarray(v) for n, v in inputs.items() if n != "attention_mask"}
        length = arrays["input_ids"].shape[1]
        tokens = {n: v[0] for n, v in arrays.items() if v.shape[:2] == (1, length)}
        vision = {n: v for n, v in arrays.items() if n not in tokens}
        return Prepared(length=length, tokens=tokens, vision=vision)

    def _processed(self, text: str, images: Sequence[Image.Image]) -> Any:
        return self.processor(
            text=[text],
            images=list(images) or None,
            return_tensors="np",
            add_special_tokens=self.adds_special(text),
            **(self.image_options if images else {}),
        )

    def _refusal(self, text: str, n_images: int, error: Exception) -> Refused | ProcessorFails:
        """Whose fault it is: tried again with plain pictures, then with plain words as well."""
        plain = [plain_picture()] * n_images
        if n_images and takes(lambda: self._processed(text, plain)):
            return Refused("image_refused", in_words(error))
        words = self.render([Message("user", (*[IMAGE] * n_images, "What is it?"))])
        if takes(lambda: self._processed(words, plain)):
            return Refused("text_refused", in_words(error))
        return ProcessorFails(self.processor, error)

    def within_cutoff(self, of_images: np.ndarray, closing: int = 0) -> np.ndarray:
        """bool [tokens], True for what stays: text beyond the cutoff is cut at its end.

        of_images: bool [tokens]. Image tokens are never cut (half an image has no meaning, and the
        model refuses it), nor are the last `closing` tokens. Where these fill the cutoff alone, no
        other token stays.
        """
        fixed = of_images.copy()
        fixed[len(fixed) - closing :] = True
        return fixed | (np.cumsum(~fixed) <= self.cutoff - fixed.sum())

    def prepare_messages(
        self, messages: Sequence[Message], images: Sequence[Image.Image], *, prompt: bool
    ) -> Prepared:
        """The conversation within the cutoff; what the template writes at its end stays.

        prompt: with the beginning of an answer. Raises Refused.
        """
        item = self.tokenize(self.render(messages, prompt=prompt), images)
        if item.length <= self.cutoff:
            return item
        of_images = np.isin(item.tokens["input_ids"], self.image_ids)
        kept = self.within_cutoff(of_images, self._closing(prompt))
        tokens = {name: array[kept] for name, array in item.tokens.items()}
        return Prepared(length=int(kept.sum()), tokens=tokens, vision=item.vision)

    def _closing(self, prompt: bool) -> int:
        """How many tokens the template writes behind the last word of a conversation."""
        if prompt not in self._closings:
            word = "\N{SNOWMAN}"
            _, _, behind = self.render([Message("user", (word,))], prompt=prompt).rpartition(word)
            ids = self.tokenizer(behind, add_special_tokens=False)["input_ids"]
            self._closings[prompt] = len(ids)
        return self._closings[prompt]


def error_of(refused: Refused, where: object) -> EmtError:
    """The error that ends a stage which cannot do without the sample."""
    part = "chat template" if refused.reason == "template_refused" else "processor"
    return EmtError(
        f"the model's {part} fails on a sample ({refused.detail})",
        where=where,
        remedy="use the model's instruct version; `emt check-model` shows what its template writes",
    )


def image_options(images: Any, max_tiles: int, max_pixels: int) -> dict[str, Any]:
    """What the image processor of each class has to be told, against its own defaults."""
    if hasattr(images, "crop_to_patches"):
        # InternVL's tiles by default: 13 tiles, 3,328 tokens for one image at 448 px
        if max_tiles == 1:
            return {"crop_to_patches": False}
        return {"crop_to_patches": True, "min_patches": 1, "max_patches": max_tiles}
    if hasattr(images, "merge_size") and "longest_edge" in images.size:
        # Qwen's keeps an image's own size, up to 16.8 million pixels: 16,384 tokens. Its "edges"
        # are pixel counts.
        most = min(images.size["longest_edge"], max_pixels)
        return {
            "size": {
                "shortest_edge": min(images.size["shortest_edge"], most),
                "longest_edge": most,
            }
        }
    return {}
