"""A sample as chat messages: the same format for pool and robot, nothing added that only one of them has.

Where images stand: one image goes first, as LLaVA's own trainer moves it (`preprocess_multimodal`), so that its place
in the text cannot tell a robot frame from a pool sample; several images stay where their `<image>` placeholders are.
Images without a placeholder come first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emt_core.data.sample import Sample, Speaker
from emt_core.models.encoders.base import TextMode

PLACEHOLDER = "<image>"
IMAGE = None
"""A part that stands for the next image; all other parts are text."""

Part = str | None


@dataclass(frozen=True, slots=True)
class Message:
    role: Speaker
    parts: tuple[Part, ...]


def chat_messages(sample: Sample, n_images: int, text: TextMode) -> list[Message]:
    """The conversation with `n_images` images in it (the first ones of the sample).

    none: one user message of images. user, instruction: one user message with all user turns. full: every turn.
    Empty where there is neither an image nor any text.
    """
    if text == "none":
        return [Message("user", (IMAGE,) * n_images)] if n_images else []
    turns: list[tuple[Speaker, list[Part]]] = [
        (turn.role, _split(turn.text)) for turn in sample.turns
    ]
    placed = sum(part is IMAGE for _, parts in turns for part in parts)
    if n_images <= 1:
        placed = 0
    left = [min(placed, n_images)]

    def keep(part: Part) -> bool:
        if part is not IMAGE:
            return True
        left[0] -= 1
        return left[0] >= 0

    kept: list[tuple[Speaker, list[Part]]] = [
        (role, [p for p in parts if keep(p)]) for role, parts in turns
    ]
    leading: list[Part] = [IMAGE] * (n_images - min(placed, n_images))
    if text == "full":
        messages = _with_leading(kept, leading)
    else:
        parts = [part for role, parts in kept for part in parts if role == "user" or part is IMAGE]
        messages = [Message("user", tuple(leading + parts))]
    return [message for message in messages if message.parts]


def _split(text: str) -> list[Part]:
    """`"<image>\\nWhat is it?"` -> [IMAGE, "What is it?"]: blanks round a placeholder belong to the file format."""
    parts: list[Part] = []
    for place, piece in enumerate(text.split(PLACEHOLDER)):
        if place:
            parts.append(IMAGE)
        if piece.strip():
            parts.append(piece.strip())
    return parts


def _with_leading(turns: list[tuple[Speaker, list[Part]]], leading: list[Part]) -> list[Message]:
    messages: list[Message] = []
    for role, parts in turns:
        if role == "user" and leading:
            parts, leading = leading + parts, []
        messages.append(Message(role, tuple(parts)))
    return [Message("user", tuple(leading)), *messages] if leading else messages


def cut_text(
    messages: list[Message], budget: int, cut: Callable[[str, int], tuple[str, int]]
) -> list[Message]:
    """Keep the first `budget` text tokens; images are never cut.

    cut(text, room) -> (the text's first `room` tokens as text, how many tokens it has now).
    """
    kept = []
    for message in messages:
        parts: list[Part] = []
        for part in message.parts:
            if part is None:  # IMAGE
                parts.append(part)
            elif budget > 0:
                shorter, used = cut(part, budget)
                budget -= used
                if shorter:
                    parts.append(shorter)
        if parts:
            kept.append(Message(message.role, tuple(parts)))
    return kept


CONTROL_TOKENS = (
    "image_token",
    "video_token",
    "start_image_token",
    "end_image_token",
    "vision_start_token",
    "vision_end_token",
    "eos_token",
    "bos_token",
    "pad_token",
)


def image_options(images: Any, max_pixels: int) -> dict[str, Any]:
    """What the processor of each class has to be told, against its own defaults."""
    if hasattr(images, "crop_to_patches"):
        # InternVL's tiles by default: 13 tiles, 3,328 tokens for one image at 448 px
        return {"crop_to_patches": False}
    if hasattr(images, "merge_size") and "longest_edge" in images.size:
        # Qwen's keeps an image's own size, up to 16.8 million pixels: 16,384 tokens. Its "edges" are pixel counts.
        least, most = images.size["shortest_edge"], min(images.size["longest_edge"], max_pixels)
        return {"size": {"shortest_edge": min(least, most), "longest_edge": most}}
    return {}
