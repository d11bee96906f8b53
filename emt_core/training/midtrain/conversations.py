"""A sample -> the model's inputs with a label mask: loss on the assistant's words alone.

The mask comes from the model's own chat template. The conversation is rendered as a whole; an
assistant turn is what the template adds between "everything before, with the generation prompt" and
"everything up to and with this turn". What counts as the turn's end (`<|im_end|>`) is learned, the
blank after it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from emt_core.errors import EmtError
from emt_core.models.prepared import Refused
from emt_core.models.vlm.chat import Chat, Message
from emt_core.training.midtrain.micro_batch import IGNORE, TrainingItem

if TYPE_CHECKING:
    from PIL import Image

    from emt_core.data.sample import Sample

REASONS = {
    "no_supervised_token": "after truncation no word of the assistant is left",
    "images_exceed_cutoff": "the image tokens alone fill the cutoff length",
    "too_many_images": "the sample has more images than midtrain.max_images",
    "image_refused": "the model's processor cannot take the image",
    "text_refused": "the model's processor cannot take the text",
    "no_question": "the conversation begins with the assistant: there is nothing it could answer",
    "template_refused": "the model's chat template cannot write the conversation",
    "template_not_understood": "the template's text does not show what the assistant says",
}
"""Why a selected sample is not trained on, beside what REJECT_REASONS says of its images."""


class ConversationPreparer(Chat):
    """The CPU half of training: no model, small enough to go to a worker process."""

    def prepare(self, sample: Sample, images: Sequence[Image.Image]) -> TrainingItem:
        """Raises Refused where nothing can be learned, EmtError for a template of another kind."""
        messages = self.messages(sample, len(images), "full")
        if messages and messages[0].role == "assistant":
            # the question was empty; an answer to nothing teaches to talk unasked
            raise Refused("no_question")
        text = self.render(messages)
        whole = self.tokenize(text, images)
        ids = whole.tokens["input_ids"].astype(np.int64)
        of_images = np.isin(ids, self.image_ids)
        labels = self._labels(messages, text, ids, ~of_images)
        count = int(of_images.sum())
        if count >= self.cutoff:
            raise Refused("images_exceed_cutoff", f"{count} image tokens, cutoff {self.cutoff}")
        kept = self.within_cutoff(of_images)
        labels = labels[kept]
        # nothing stands before the first token from which it could be predicted
        if not (labels[1:] != IGNORE).any():
            raise Refused("no_supervised_token", f"{len(ids)} tokens, cut at {self.cutoff}")
        return TrainingItem(
            id=sample.id,
            length=len(labels),
            tokens={name: array[kept] for name, array in whole.tokens.items()},
            labels=labels,
            vision=whole.vision,
        )

    def answer_spans(self, messages: Sequence[Message], text: str) -> list[tuple[int, int]]:
        """Where in the rendered text the assistant's turns lie, end marks included."""
        spans = []
        for place, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self.render(messages[:place], prompt=True)
            upto = self.render(messages[: place + 1])
            end = upto.rstrip()
            if not (text.startswith(before) and text.startswith(end) and len(upto) > len(before)):
                raise EmtError(
                    "the chat template does not write a conversation turn by turn, so what the"
                    " assistant says in it cannot be found",
                    where=type(self.processor).__name__,
                    remedy="use the model's instruct version;"
                    " `emt check-model` shows what its template writes",
                )
            spans.append((len(before), len(end)))
        return spans

    def _labels(
        self, messages: Sequence[Message], text: str, ids: np.ndarray, words: np.ndarray
    ) -> np.ndarray:
        """int64 [tokens]. ids: what the processor made of the text and the images; words: bool
        [tokens], False for those of images.

        The text is tokenized once more, for each token's place in the characters. Both sequences
        are the same apart from images, which the processor has written as many tokens.
        """
        encoded = self.tokenizer(
            text, add_special_tokens=self.adds_special(text), return_offsets_mapping=True
        )
        plain = np.asarray(encoded["input_ids"], np.int64)
        starts, ends = np.asarray(encoded["offset_mapping"], np.int64).T
        learned = np.zeros(len(plain), bool)
        for start, end in self.answer_spans(messages, text):
            learned |= (starts >= start) & (ends <= end) & (ends > starts)
        plain_words = ~np.isin(plain, self.image_ids)
        if not np.array_equal(ids[words], plain[plain_words]):
            raise EmtError(
                "the processor changes text beside the images, so answers cannot be told from"
                " questions",
                where=type(self.processor).__name__,
                remedy="supported are InternVL- and Qwen3-VL-class models",
            )
        mask = np.zeros(len(ids), bool)
        mask[words] = learned[plain_words]
        return np.where(mask, ids, IGNORE)
