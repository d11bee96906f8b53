"""Several questions about one image in one training sequence, each blind to the others.

    prefix                       question 1      question 2     ...
    <|im_start|>user\n<img>..    Q1 .. A1        Q2 .. A2

The image prefix is causal, so it is the same for every question. Each question's positions start
right behind the prefix and its mask shows it the prefix and itself only: the loss equals that of
separate sequences (a test says so), while the vision tower and the prefix run once. A part of the
images is chained instead, as one conversation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from demo.tiny_vlm import IMAGE_TOKENS
from demo.tokenizer import IMAGE_TOKEN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PREFIX = f"<|im_start|>user\n<img>{IMAGE_TOKEN * IMAGE_TOKENS}</img>\n"
ANSWER = "<|im_end|>\n<|im_start|>assistant\n"
TURN = "\n<|im_start|>user\n"
END = "<|im_end|>"


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A batch; L is the longest sequence's length, shorter ones are padded at the right."""

    input_ids: np.ndarray
    """int64 [batch, L]."""
    positions: np.ndarray
    """int64 [batch, L]: restart behind the prefix for each independent question."""
    allowed: np.ndarray
    """bool [batch, L, L]: row attends to column."""
    targets: np.ndarray
    """int64 [batch, L]: the token to predict at this place, -100 where there is no loss."""
    weights: np.ndarray
    """float32 [batch, L]: 1 / sqrt(tokens of the answer), so that long captions do not drown
    one-word answers."""


class Packer:
    """Turns questions of images into `Packed` batches; holds the tokenizer's ids of the fixed
    parts."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        def ids(text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=False).input_ids

        self._ids = ids
        self._prefix = ids(PREFIX)
        self._answer = ids(ANSWER)
        self._turn = ids(TURN)
        self._end = ids(END)
        self._pad = tokenizer.pad_token_id
        self.image_start = self._prefix.index(cast("int", tokenizer.context_image_token_id))
        """Place of the first visual token, the same in every sequence."""

    def segment(self, question: str, answer: str) -> tuple[list[int], int]:
        """Token ids from the question to the end of its answer, and where the answer starts."""
        asked = self._ids(question) + self._answer
        return asked + self._ids(answer) + self._end, len(asked)

    def pack(self, batch: list[list[tuple[list[int], int]]], chained: list[bool]) -> Packed:
        """`batch` holds the segments of each image; `chained` says which images are one
        conversation."""
        p = len(self._prefix)
        glue = len(self._turn)
        longest = p + max(
            sum(len(s) for s, _ in segments) + (glue * (len(segments) - 1) if chain else 0)
            for segments, chain in zip(batch, chained, strict=True)
        )
        shape = (len(batch), longest)
        ids = np.full(shape, self._pad, dtype=np.int64)
        positions = np.zeros(shape, dtype=np.int64)
        targets = np.full(shape, -100, dtype=np.int64)
        weights = np.zeros(shape, dtype=np.float32)
        causal = np.tri(longest, dtype=bool)
        allowed = np.broadcast_to(
            np.eye(longest, dtype=bool), (len(batch), longest, longest)
        ).copy()
        for row, (segments, chain) in enumerate(zip(batch, chained, strict=True)):
            ids[row, :p] = self._prefix
            positions[row, :p] = np.arange(p)
            allowed[row, :p, :p] = causal[:p, :p]
            at = p
            for i, (segment, answer_at) in enumerate(segments):
                body = self._turn + segment if chain and i else segment
                answer_at += len(body) - len(segment)
                end = at + len(body)
                ids[row, at:end] = body
                targets[row, at + answer_at - 1 : end - 1] = body[answer_at:]
                weights[row, at + answer_at - 1 : end - 1] = (len(body) - answer_at) ** -0.5
                if chain:
                    positions[row, at:end] = np.arange(at, end)
                    allowed[row, at:end, :end] = causal[at:end, :end]
                else:
                    positions[row, at:end] = np.arange(p, p + len(body))
                    allowed[row, at:end, :p] = True
                    allowed[row, at:end, at:end] = causal[: len(body), : len(body)]
                at = end
        return Packed(
            input_ids=ids, positions=positions, allowed=allowed, targets=targets, weights=weights
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images with their packed questions."""

    images: np.ndarray
    """uint8 [batch, 112, 112, 3]."""
    packed: Packed
    cells: list[np.ndarray]
    kinds: list[str]
    """Kind of each answer token's question, in the order of `packed.targets >= 0`."""
    gaze: np.ndarray
    """int64 [answer tokens]: the visual token that the answer token is about, -1 where none
    (`gaze.py`)."""
