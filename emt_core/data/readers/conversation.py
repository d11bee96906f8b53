"""From a file's rows to turns: speakers, order, `<image>` placeholders; one rule for all formats.

Rules (docs/formats.md): an optional system turn, then user and assistant in turn; a pool
conversation ends with an answer; as many placeholders as images. Where a format's convention writes
none although the row has images, they are put in front of the first user turn.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from emt_core.data.json_rows import parse_json
from emt_core.data.sample import ImageRef, Reject, Sample, Speaker, Turn
from emt_core.recipe.base import Role

PLACEHOLDER = "<image>"
UNREAD_MARK = re.compile("<(?:video|audio)>")
TEXT_PARTS = ("text", "input_text", "output_text")
IMAGE_PARTS = ("image", "image_url", "input_image")
UNREAD_PARTS = ("video", "audio")
"""Words in the `type` of a part that is not read: `video`, `video_url`, `input_audio`."""

QWEN_IMAGE = re.compile(r"<img>([^<>\n]+)</img>")
"""How Qwen-VL writes an image into a text, with its path."""

OTHER_MARKS = re.compile(
    r"<ImageHere>|(?:<\|vision_start\|>)?<\|image_pad\|>(?:<\|vision_end\|>)?"
    r"|<\|image_(\d+)\|>|<image[_ ]?(\d+)>"
)
"""Placeholders of other projects; those with a number count from 1."""

SPEAKERS: Mapping[str, Speaker] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
}
MAX_META_ITEMS = 32
MAX_META_CHARS = 256
Missing = Literal["lead", "reject", "none"]


class RowProblem(Exception):
    """The row is left out: a key of REJECT_REASONS and a detail that helps to mend it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def parse_turns(
    raw: Any,
    *,
    role_tags: Sequence[str] = ("from", "role"),
    content_tags: Sequence[str] = ("value", "content"),
    speakers: Mapping[str, Speaker] = SPEAKERS,
) -> tuple[Turn, ...]:
    """A list of turns (or JSON text of one) to Turns. The first tag that a turn has is used.

    Raises RowProblem: `unreadable_row` (not a list of objects with text), `unknown_role`.
    """
    if isinstance(raw, str):
        try:
            raw = parse_json(raw)
        except ValueError as error:
            raise RowProblem(
                "unreadable_row", f"the conversation is text, but not JSON: {error}"
            ) from error
    if not isinstance(raw, list | tuple) or not raw:
        raise RowProblem("unreadable_row", f"no list of turns, but {shown(raw)}")
    turns = []
    for number, item in enumerate(raw):
        if not isinstance(item, Mapping):
            raise RowProblem("unreadable_row", f"turn {number} is not an object, but {shown(item)}")
        role = next((item[tag] for tag in role_tags if item.get(tag) is not None), None)
        if role is None and any(speakers.get(str(name).lower()) for name in item):
            turns += _spoken_pair(item, number, speakers)
            continue
        content = next((item[tag] for tag in content_tags if item.get(tag) is not None), None)
        speaker = (
            speakers.get(role) or speakers.get(role.lower()) if isinstance(role, str) else None
        )
        if speaker is None:
            raise RowProblem(
                "unknown_role",
                f"turn {number} is spoken by {shown(role)}; looked for {' or '.join(role_tags)} "
                f"with one of {', '.join(speakers)}; the turn has {shown(list(item))}",
            )
        turns.append(Turn(role=speaker, text=_text_of(content, number)))
    return tuple(turns)


def _spoken_pair(
    item: Mapping[str, Any], number: int, speakers: Mapping[str, Speaker]
) -> Iterator[Turn]:
    """Turns of `{"user": "...", "assistant": "..."}`, as the_cauldron and FineVision write them."""
    for name, content in item.items():
        speaker = speakers.get(str(name).lower())
        if speaker is not None and content is not None:
            yield Turn(role=speaker, text=_text_of(content, number))


def _text_of(content: Any, number: int) -> str:
    """Text of a turn: plain, or parts ([{"type": "image"}, {"type": "text", "text": ...}])."""
    if isinstance(content, str):
        return encodable(content)
    if not isinstance(content, list | tuple):
        raise RowProblem("unreadable_row", f"turn {number} has no text, but {shown(content)}")
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in IMAGE_PARTS:
            parts.append(PLACEHOLDER)
        elif kind in TEXT_PARTS and isinstance(part.get("text"), str):
            parts.append(encodable(part["text"]))
        elif isinstance(kind, str) and any(name in kind for name in UNREAD_PARTS):
            raise RowProblem("video_not_read", f"turn {number} has a part of type {kind!r}")
        else:
            raise RowProblem(
                "unreadable_row",
                f"turn {number} has a part that is neither text nor image: {shown(part)}",
            )
    return "\n".join(parts)


def encodable(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate (legal in JSON escapes) becomes U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def placeholders(turns: Sequence[Turn]) -> int:
    return sum(turn.text.count(PLACEHOLDER) for turn in turns)


def settle_turns(
    turns: tuple[Turn, ...], *, images: int, role: Role, missing: Missing
) -> tuple[Turn, ...]:
    """Check a conversation and settle its placeholders.

    missing: what to do with a row that has images but no placeholder at all: `lead` puts them in
    front of the first user turn, `reject` leaves the row out, `none` holds no row to placeholders
    (a robot's frame and instruction). Raises RowProblem: bad_turn_order, no_answer, empty_text,
    image_count_mismatch.
    """
    spoken = turns[1:] if turns and turns[0].role == "system" else turns
    if not spoken:
        raise RowProblem("empty_text", "there is no turn of the user")
    for number, turn in enumerate(spoken):
        wanted = "user" if number % 2 == 0 else "assistant"
        if turn.role != wanted:
            raise RowProblem(
                "bad_turn_order", f"turn {number} is the {turn.role}'s and should be the {wanted}'s"
            )
    if not any(turn.text.replace(PLACEHOLDER, "").strip() for turn in spoken):
        raise RowProblem("empty_text", "no turn carries any text")
    if role == "pool":
        if len(spoken) % 2:
            raise RowProblem("no_answer", "the conversation ends with the user's turn")
        if not any(turn.text.strip() for turn in spoken[1::2]):
            raise RowProblem("no_answer", "every answer is empty")
    marked = next((found for t in spoken[::2] if (found := UNREAD_MARK.search(t.text))), None)
    if marked and missing != "none":
        raise RowProblem("video_not_read", f"the text has the mark {marked[0]}")
    found = placeholders(turns)
    if found == 0 and images and missing == "lead":
        at = len(turns) - len(spoken)
        first = turns[at]
        text = "\n".join([PLACEHOLDER] * images + ([first.text] if first.text else []))
        return (*turns[:at], Turn(role="user", text=text), *turns[at + 1 :])
    if found != images and missing != "none":
        raise RowProblem("image_count_mismatch", f"{found} placeholders, {images} images")
    return turns


def image_marks(turns: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], list[str]]:
    """Turns with `<image>` for the placeholders of other projects, and the paths in them.

    Raises RowProblem (`image_count_mismatch`) for numbered ones that are not in their order.
    """
    paths: list[str] = []
    numbers: list[int] = []

    def named(found: re.Match[str]) -> str:
        paths.append(found[1])
        return PLACEHOLDER

    def numbered(found: re.Match[str]) -> str:
        numbers.extend(int(number) for number in found.groups() if number)
        return PLACEHOLDER

    settled = tuple(
        replace(turn, text=OTHER_MARKS.sub(numbered, QWEN_IMAGE.sub(named, turn.text)))
        for turn in turns
    )
    if numbers != list(range(1, len(numbers) + 1)):
        raise RowProblem("image_count_mismatch", f"images are marked in the order {numbers}")
    return settled, paths


def qa_turns(question: Any, answer: Any) -> tuple[Turn, ...]:
    """One question, and its answer where there is one (None: none)."""
    for name, value in (("question", question), ("answer", answer)):
        if value is not None and not isinstance(value, str):
            raise RowProblem("unreadable_row", f"the {name} is not text, but {shown(value)}")
    turns = [Turn(role="user", text=encodable(question or ""))]
    if answer is not None:
        turns.append(Turn(role="assistant", text=encodable(answer)))
    return tuple(turns)


def chosen(question: Any, choices: Any, answer: Any) -> tuple[Any, Any]:
    """(the question with its choices below it, the text of the right choice).

    choices: a list of texts, or a text that holds one as JSON or as Python writes it. answer: the
    place of the right one from 0, its letter, or its text; None leaves it open.
    Raises RowProblem (`unreadable_row`).
    """
    if isinstance(choices, str):
        try:
            choices = ast.literal_eval(choices)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise RowProblem(
                "unreadable_row", f"the choices are no list: {shown(choices)}"
            ) from error
    if not isinstance(choices, list | tuple) or not choices:
        raise RowProblem("unreadable_row", f"the choices are no list, but {shown(choices)}")
    texts = [choice if isinstance(choice, str) else str(choice) for choice in choices]
    listed = "\n".join([str(question or ""), "Choices:", *(f"- {text}" for text in texts)])
    if answer is None or answer in texts:
        return listed, answer
    place = answer
    if isinstance(answer, str):
        letter = answer.strip().upper()
        place = ord(letter) - ord("A") if re.fullmatch("[A-Z]", letter) else letter
        place = int(place) if isinstance(place, str) and place.isdecimal() else place
    if isinstance(place, float) and place.is_integer():  # of a column with gaps
        place = int(place)
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(texts):
        raise RowProblem(
            "unreadable_row", f"the answer {shown(answer)} names none of {len(texts)} choices"
        )
    return listed, texts[place]


def unmarked(turns: tuple[Turn, ...], marks: Sequence[str]) -> tuple[Turn, ...]:
    """Turns without these marks, each with the blank before it."""
    if not marks:
        return turns
    pattern = re.compile(f" ?(?:{'|'.join(map(re.escape, marks))})")
    return tuple(replace(turn, text=pattern.sub("", turn.text)) for turn in turns)


def build_sample(
    *,
    source: str,
    row: int,
    role: Role,
    turns: tuple[Turn, ...],
    images: Sequence[ImageRef],
    missing: Missing,
    own_id: Any = None,
    meta: Mapping[str, Any] | None = None,
    episode: int = -1,
    frame: int = -1,
) -> Sample:
    """Settle the conversation and put the sample together. Raises RowProblem."""
    if missing == "lead" and not placeholders(turns):
        turns, _ = image_marks(turns)
    return Sample(
        source=source,
        row=row,
        role=role,
        turns=settle_turns(turns, images=len(images), role=role, missing=missing),
        images=tuple(images),
        own_id=plain_id(own_id),
        meta=plain_meta(meta or {}),
        episode=episode,
        frame=frame,
    )


def shown(value: Any) -> str:
    """A value of the data as a message quotes it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def sample_or_reject(
    source: str, row: int, own_id: Any, make: Callable[[], Sample]
) -> Sample | Reject:
    """The sample that `make` returns, or the Reject of the RowProblem that it raises."""
    try:
        return make()
    except RowProblem as problem:
        return reject(source, row, problem, own_id)
    except RecursionError:
        problem = RowProblem("unreadable_row", "lists or objects are nested too deep")
        return reject(source, row, problem, own_id)


def reject(source: str, row: int, problem: RowProblem, own_id: Any = None) -> Reject:
    return Reject(
        source=source,
        row=row,
        reason=problem.reason,
        detail=encodable(problem.detail),
        own_id=plain_id(own_id),
    )


def plain_id(value: Any) -> str:
    """An id as text, exactly as the file writes it."""
    return (
        encodable(value) if isinstance(value, str) else str(value) if isinstance(value, int) else ""
    )


def plain_meta(values: Mapping[str, Any]) -> dict[str, Any]:
    """Small plain values: text up to MAX_META_CHARS, finite numbers, booleans; lists as JSON text,
    objects flattened.

    {"a": 1, "meta": {"b": 2}, "c": {"d": 3}} -> {"a": 1, "b": 2, "c.d": 3}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        items = value.items() if isinstance(value, Mapping) else [(None, value)]
        for inner, item in items:
            if len(found) >= MAX_META_ITEMS:
                return found
            if isinstance(item, list) and len(item) <= MAX_META_ITEMS:
                item = _as_json(item)
            plain = isinstance(item, bool | int) or (isinstance(item, float) and item - item == 0)
            if plain or (isinstance(item, str) and len(item) <= MAX_META_CHARS):
                label = (
                    str(name)
                    if inner is None
                    else str(inner)
                    if name == "meta"
                    else f"{name}.{inner}"
                )
                found[encodable(label)] = encodable(item) if isinstance(item, str) else item
    return found


def _as_json(value: Any) -> str | None:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # bytes and the like
        return None
