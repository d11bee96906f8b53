"""VCR (Visual Commonsense Reasoning): JSON lines whose texts are tokens with tags of objects.

    vcr1/train.jsonl    {"img_fn", "metadata_fn", "objects": ["person", "person", "car"],
                         "question": ["Why", "is", [0], "pointing", "at", [2], "?"],
                         "answer_choices": [[...], ...], "answer_label": 1,
                         "rationale_choices": [[...], ...], "rationale_label": 0, "annot_id"}
    vcr1/vcr1images/    img_fn, and metadata_fn: {"boxes": [[x1, y1, x2, y2, score]], "width", ...}

A tag becomes the object's name and number (`person1`, `car3`: the place in `objects`, from 1, as
the authors show it). Below the question stand the boxes of those that question and answer name, in
shares of the image's width and height; without them nobody knows which person is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from emt_core.data.fingerprint import FileSet
from emt_core.data.images.handles import ImageProblem, file_facts
from emt_core.data.json_rows import MAX_ROW_BYTES, parse_json
from emt_core.data.paths import PathLeavesRoot, inside
from emt_core.data.readers.conversation import RowProblem, build_sample, sample_or_reject
from emt_core.data.readers.fields import file_refs
from emt_core.data.readers.json_stream import id_in, object_of, stream_rows
from emt_core.data.sample import Reject, Sample, Turn
from emt_core.recipe.sources import VcrSource

WHY = "Why is that so?"
NO_SPACE_BEFORE = re.compile(r" (?=[?.,!;:)\]']|n't\b)")
NO_SPACE_AFTER = re.compile(r"(?<=\() |(?<=\w') (?=(?:s|re|m|ve|ll|d|t)\b)")


def loose_images(source: VcrSource, data: Path) -> bool:
    return True


def image_root(source: VcrSource, data: Path) -> Path:
    return (data.parent / source.image_root).absolute()


def files(source: VcrSource, data: Path) -> FileSet:
    return FileSet(base=data.parent, index=(data,))


def count(source: VcrSource, data: Path) -> int | None:
    return None


def read(source: VcrSource, data: Path) -> Iterator[Sample | Reject]:
    root = image_root(source, data)
    for row, (_, record) in enumerate(stream_rows(data)):
        make = partial(_sample, source, root, row, record)
        yield sample_or_reject(source.name, row, id_in(record, "annot_id"), make)


def _sample(source: VcrSource, root: Path, row: int, record: Any) -> Sample:
    """Raises RowProblem."""
    try:
        return _told_sample(source, root, row, object_of(record))
    except (KeyError, TypeError, ValueError, ArithmeticError, IndexError, AttributeError) as error:
        said = f"no row of VCR: {type(error).__name__} {error}"
        raise RowProblem("unreadable_row", said) from error


def _told_sample(source: VcrSource, root: Path, row: int, record: Mapping[str, Any]) -> Sample:
    if "answer_label" not in record:
        raise RowProblem("no_answer", "the row has no answer_label, as those of test.jsonl")
    objects = record["objects"]
    said = [record["question"], record["answer_choices"][record["answer_label"]]]
    if source.rationale:
        said.append(record["rationale_choices"][record["rationale_label"]])
    question, answer, *rationale = (_text(tokens, objects) for tokens in said)
    if source.boxes:
        named = sorted({place for tokens in said for place in _tags(tokens)})
        question += _where(named, objects, root, record["metadata_fn"])
    turns = [Turn(role="user", text=question), Turn(role="assistant", text=answer)]
    if rationale:
        turns += [Turn(role="user", text=WHY), Turn(role="assistant", text=rationale[0])]
    return build_sample(
        source=source.name,
        row=row,
        role=source.role,
        turns=tuple(turns),
        images=file_refs(record["img_fn"], root),
        missing="lead",
        own_id=record.get("annot_id"),
        meta={name: record[name] for name in ("movie", "answer_likelihood") if name in record},
    )


def _tags(tokens: Sequence[Any]) -> list[int]:
    return [place for token in tokens if isinstance(token, list) for place in token]


def _text(tokens: Sequence[Any], objects: Sequence[str]) -> str:
    parts = []
    for token in tokens:
        if isinstance(token, list):
            parts.append(" and ".join(_name(place, objects) for place in token))
        else:
            parts.append(str(token))
    return NO_SPACE_AFTER.sub("", NO_SPACE_BEFORE.sub("", " ".join(parts)))


def _name(place: int, objects: Sequence[str]) -> str:
    return f"{objects[place]}{place + 1}"


def _where(named: Sequence[int], objects: Sequence[str], root: Path, metadata: str) -> str:
    """`\\n(person1: [0.1, 0.2, 0.4, 0.9]; ...)`, or "" where no object is named."""
    if not named:
        return ""
    width, height, boxes = _boxes(root, metadata)
    told = []
    for place in named:
        x1, y1, x2, y2 = boxes[place][:4]
        shares = (x1 / width, y1 / height, x2 / width, y2 / height)
        told.append(f"{_name(place, objects)}: [{', '.join(f'{share:.2f}' for share in shares)}]")
    return f"\n({'; '.join(told)})"


@lru_cache(maxsize=64)  # the questions of an image follow each other
def _boxes(root: Path, metadata: str) -> tuple[float, float, list[list[float]]]:
    try:
        path = inside(root, metadata)
        if file_facts(path).st_size > MAX_ROW_BYTES:
            raise ValueError("it is too large")
        found = parse_json(path.read_bytes())
        return found["width"], found["height"], found["boxes"]
    except PathLeavesRoot as error:
        raise RowProblem("bad_path", str(error)) from error
    except (OSError, ImageProblem, ValueError, KeyError, TypeError) as error:
        raise RowProblem(
            "unreadable_row",
            f"no boxes in {metadata} ({type(error).__name__}); `boxes: false` reads the row "
            "without them",
        ) from error
