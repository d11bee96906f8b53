"""The tiny VLM's own byte-level BPE: whole words where text is prose, single characters where it
must be read.

Capital letters and digits never merge. The demo's images show text in capitals, so a string to read
is spelled letter by letter and a string never seen in training has the same tokens as one that was.
Coordinates are digits, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 1920
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<video>",
)
IMAGE_TOKEN = "<IMG_CONTEXT>"

_SPLIT = r"0\.(?=\d)|\p{Lu}|\p{N}| ?\p{Ll}+|\p{L}+|[^\s\p{L}\p{N}] ?|\n|\s"
"""Order matters: "0." (of coordinates), one capital, one digit, a lower-case word with its blank,
punctuation with the blank after it, line ends, other blanks."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif part['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As in InternVL3.5's template: a plain list of turns, the image where the message has it, no
default system text."""

_ROBOT_PROSE = (
    "you are a helpful assistant. user assistant system. what action should the robotic arm take "
    "to open the drawer? push the button. close the door. open the window. reach the goal "
    "position. pick up the object and place it on the table. is the gripper open or closed? the "
    "gripper holds nothing. which direction must the gripper move to reach the handle? move the "
    "arm forward, backward, up, down, left or right. where should the robot grasp the mug? the "
    "robot turns the dial, pulls the lever, presses the button, slides the plate, inserts the peg "
    "and stacks the blocks. find a vacant spot on the table in front of the box. the cube touches "
    "the cylinder. the camera looks at the scene from the side. a small wooden block, a metal "
    "puck, a soccer goal, a basketball hoop, a faucet, a coffee machine. which task is the robot "
    "doing? closer, farther, between, behind, next to, inside, on top of, near the edge."
)
"""Words of robot data, which the general images never use: they get tokens of their own but no
training here."""


def train(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of VOCABULARY entries learned from `texts`; deterministic for the same texts in
    the same order."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator([*texts, *[_ROBOT_PROSE] * 60], trainer)
    return wrap(raw)


def wrap(raw) -> PreTrainedTokenizerFast:
    """A `tokenizers.Tokenizer` as the transformers tokenizer that InternVLProcessor expects."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": IMAGE_TOKEN,
            "video_token": "<video>",
        },
    )


def load(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer saved in a model folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
