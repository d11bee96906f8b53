"""Which fields of a row hold its conversation and its images; rows that are refused by name.

One rule for JSON, tables and archives. Fields that a source names are taken; else the known names
are tried in order, and one that holds nothing hides none after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emt_core.data.images.base64_text import is_base64
from emt_core.data.images.formats import readable_suffixes
from emt_core.data.images.values import is_absent, numbered_images
from emt_core.data.paths import PathLeavesRoot, relative_path
from emt_core.data.readers.conversation import (
    PLACEHOLDER,
    RowProblem,
    chosen,
    encodable,
    image_marks,
    parse_turns,
    qa_turns,
    shown,
)
from emt_core.data.sample import ImageRef, Turn
from emt_core.recipe.sources import ColumnsMixin

CONVERSATIONS = ("conversations", "messages", "texts", "conversation")
"""Lists of turns: LLaVA and ShareGPT, OpenAI, the_cauldron, ms-swift."""

QUESTIONS = ("query", "instruction")
ANSWERS = ("response", "output")
ASKED = (*QUESTIONS, *ANSWERS, "input", "history", "system")
"""ms-swift and Alpaca: a question and its answer, what the question is about, earlier pairs, the
system's words."""

IMAGES = ("image", "images")
UNREAD = ("video", "videos", "audio", "audios")
REJECTED = ("rejected", "rejected_response", "rejected_messages")
"""Answers that a preference set holds as the worse ones."""

MARKS = ("kto_tag", "label")
"""Marks of good and bad answers in a preference set, where they are true or false."""


def text_fields(source: ColumnsMixin) -> tuple[str, ...]:
    """Names of the fields that hold a row's text, whichever of them it has."""
    named = (source.conversations, source.question, source.choices, source.answer, source.text)
    given = tuple(name for name in named if name)
    return given or (*CONVERSATIONS, *ASKED)


def refuse(record: Mapping[str, Any], named: Iterable[str] = ()) -> None:
    """Raises RowProblem for a row with video or audio, or of a preference set.

    named: fields that the source names; they are what it says they are.
    """
    for name in (*UNREAD, *REJECTED, *MARKS):
        value = record.get(name)
        if is_absent(value) or name in named or (value is False and name not in MARKS):
            continue
        if name in UNREAD:
            what = shown(value) if isinstance(value, str) else type(value).__name__
            raise RowProblem("video_not_read", f"the row has {name!r}: {what}")
        if name in REJECTED or isinstance(value, bool):
            raise RowProblem(
                "preference",
                f"the row has {name!r}: {shown(value)}; mid-training takes good answers only "
                f"(`meta: [{name}]` reads the row and keeps the field beside it)",
            )


def row_turns(source: ColumnsMixin, record: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The turns of a row, by the source's names of fields. Raises RowProblem."""
    if source.text is not None:
        return qa_turns("", _field(record, source.text) or "")
    if source.question is not None:
        question = _field(record, source.question)
        answer = _field(record, source.answer) if source.answer else None
        if source.choices is not None:
            question, answer = chosen(question, _field(record, source.choices), answer)
        return qa_turns(question, answer)
    raw = conversation(source, record)
    if raw is not None:
        turns = parse_turns(raw)
        return turns if source.conversations else (*_system(record, turns), *turns)
    if not source.conversations and _first(record, QUESTIONS) is not None:
        return _asked(record)
    names = [source.conversations] if source.conversations else [*CONVERSATIONS, *QUESTIONS]
    raise RowProblem("unreadable_row", _nothing_found(names, record))


def conversation(source: ColumnsMixin, record: Mapping[str, Any]) -> Any:
    """The list of turns of a row, None where no field holds one."""
    names = (source.conversations,) if source.conversations else CONVERSATIONS
    raw = _first(record, names)
    if isinstance(raw, Mapping) and all(isinstance(values, list) for values in raw.values()):
        # HF's Sequence of a struct is stored as a struct of lists
        raw = [dict(zip(raw, turn, strict=False)) for turn in zip(*raw.values(), strict=False)]
    return raw


def _first(record: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of these fields that holds something."""
    return next((record[name] for name in names if not is_absent(record.get(name))), None)


def _asked(record: Mapping[str, Any]) -> tuple[Turn, ...]:
    history = record.get("history")
    pairs = [] if is_absent(history) else history
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        raise RowProblem("unreadable_row", f"history is no list of pairs, but {shown(history)}")
    last = [*qa_turns(_first(record, QUESTIONS), _first(record, ANSWERS))]
    about = record.get("input")
    if is_absent(record.get("query")) and isinstance(about, str) and about:
        last[0] = Turn(role="user", text=f"{last[0].text}\n{encodable(about)}")
    turns = (*(turn for pair in pairs for turn in qa_turns(*pair)), *last)
    return (*_system(record, turns), *turns)


def _system(record: Mapping[str, Any], turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The system's words where they stand beside the conversation and not in it."""
    words = record.get("system")
    if not isinstance(words, str) or not words or turns[0].role == "system":
        return ()
    return (Turn(role="system", text=encodable(words)),)


def _nothing_found(names: Iterable[str], record: Mapping[str, Any]) -> str:
    rows = [name for name, value in record.items() if holds_rows(value)]
    hint = (
        f"if rows lie under {rows[0]!r}, write that array to a file of its own"
        if rows
        else "say which field holds its text: conversations, question (and answer) or text"
    )
    there = ", ".join(map(str, list(record)[:10]))
    return f"the row has no {' or '.join(names)}; it has {there}; {hint}"


def holds_rows(value: Any) -> bool:
    """Whether a field is an array of objects."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _field(record: Mapping[str, Any], name: str) -> Any:
    if name not in record:
        raise RowProblem(
            "unreadable_row", f"the row has no {name!r}; it has {', '.join(list(record)[:10])}"
        )
    return record[name]


def row_images(
    source: ColumnsMixin,
    record: Mapping[str, Any],
    turns: tuple[Turn, ...],
    root: Path,
    *,
    folder: str = "",
    inline: ImageRef | None = None,
) -> tuple[tuple[Turn, ...], tuple[ImageRef, ...]]:
    """A row's turns with its placeholders as `<image>`, and its images.

    Images come from the field that the source names, else from `image` or `images`, from parts of
    the turns, or from paths in the text, the first that has some. folder: relative to `root`, for
    paths. inline: the place of images that lie in the row itself.
    """
    names = (source.images,) if source.images else IMAGES
    if not source.images and not (source.question or source.text):
        names += (source.conversations,) if source.conversations else CONVERSATIONS
    images: tuple[ImageRef, ...] = ()
    for name in names:
        if not images and record.get(name) is not None:
            place = replace(inline, member=name) if inline else None
            images = file_refs(record[name], root, folder, place)
    if not images and not any(PLACEHOLDER in turn.text for turn in turns):
        turns, paths = image_marks(turns)
        images = file_refs(paths, root, folder)
    if not images and not source.images:
        _check_unnamed(record, (*names, *text_fields(source), *source.meta))
    return turns, images


def _check_unnamed(record: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises RowProblem where a field that nobody looks at names a picture."""
    for name, value in record.items():
        if name in known or not isinstance(value, str) or not 4 < len(value) < 300:
            continue
        ending = value.rpartition(".")[2].lower()
        if ending in readable_suffixes() and "\n" not in value and "://" not in value:
            raise RowProblem(
                "missing_image",
                f"{name!r} names a picture ({shown(value)}) and `images` does not name that field: "
                f"`images: {name}` reads it, `meta: [{name}]` keeps it as text",
            )


def file_refs(
    value: Any, root: Path, folder: str = "", inline: ImageRef | None = None
) -> tuple[ImageRef, ...]:
    """Images of a field (data/images/values.py). Raises RowProblem: bad_path, unreadable_row.

    folder: relative to `root`, for paths. inline: the place of an image that lies in the row.
    """
    try:
        found = list(numbered_images(value))
    except TypeError as error:
        raise RowProblem("unreadable_row", f"{error}: {shown(value)}") from error
    return tuple(
        _file_ref(image, root, folder, inline and replace(inline, position=position))
        for position, image in found
    )


def _file_ref(image: str | bytes, root: Path, folder: str, inline: ImageRef | None) -> ImageRef:
    if isinstance(image, bytes) or is_base64(image):
        if inline is None:
            raise RowProblem(
                "bad_path",
                f"image bytes ({shown(image[:24])}) are read from files in the image "
                "folder: leave `image_root` out, or move the file there",
            )
        return inline
    try:
        name = relative_path(f"{folder}/{image}" if folder else image, root)
    except PathLeavesRoot as error:
        raise RowProblem("bad_path", str(error)) from error
    return ImageRef(kind="file", path=name)
