"""Readers of question files: five public suites as they are distributed, and our own layout.

pope         JSON lines: question_id, image (file name), text, label (yes | no);
             category: the file's name
blink        parquet: idx, sub_task, prompt, choices (list), answer `(A)`,
             image_1 .. image_4 (struct bytes, path)
visulogic    JSON lines: id, tag, question (choices in it), label (letter), image_path
3dsrbench    TSV (VLMEvalKit's): index, question, A .. D, answer (letter), category,
             image (base64, or the index of the row that has it)
spatialeval  parquet: id (`spatialmap.vqa.12`), text (choices in it), oracle_option (letter), image
own          parquet: id, question, answer, judge; by choice category, image (struct bytes, path),
             and what the judge needs (`_own`); assets/demo/questions.parquet is one

docs/training.md says what could be checked without the public files.
"""

from __future__ import annotations

import base64
import binascii
import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast, get_args

from emt_core.errors import EmtError
from emt_core.evaluation.questions.question import Judge, Picture, Question
from emt_core.recipe.retain import QuestionFile

Reader = Callable[[Path, Path], Iterator[Question]]
"""(file or folder of a suite, folder of its images) -> questions."""

ONE_WORD = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
LETTERS = "ABCDEFGH"
LONGEST_INDEX = 64
"""VLMEvalKit's bound, in characters: a shorter image cell is the index of the row that has it."""


def read_suite(suite: QuestionFile, base: Path) -> list[Question]:
    """The suite's questions, in the file's order.

    Raises EmtError for a missing or empty file and for a row that lacks what its format promises.
    """
    return _read(READERS[suite.format], suite, base)


def _read(read: Reader, suite: QuestionFile, base: Path) -> list[Question]:
    path = base / Path(suite.path).expanduser()
    if not path.exists():
        raise EmtError(
            "there is no such file of questions", where=path, remedy="check `path` of the suite"
        )
    images = base / Path(suite.images).expanduser() if suite.images else path.parent
    try:
        questions = list(islice(read(path, images), suite.limit))
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise EmtError(
            f"a row is not what {suite.format} promises ({type(error).__name__}: {error})",
            where=path,
            remedy="docs/training.md shows the layout of each format",
        ) from error
    if not questions:
        raise EmtError("the file holds no question", where=path)
    return questions


def _pope(path: Path, images: Path) -> Iterator[Question]:
    for row in _json_lines(path):
        yield Question(
            id=str(row["question_id"]),
            category=path.stem,
            text=str(row["text"]) + ONE_WORD,
            answer=_yes_or_no(row["label"]),
            judge="yes_no",
            pictures=(Picture(root=images, name=str(row["image"])),),
        )


def _blink(path: Path, images: Path) -> Iterator[Question]:
    for row in _parquet_rows(path):
        if str(row["answer"]).strip().lower() == "hidden":  # the test split's answers are withheld
            continue
        options = dict(zip(LETTERS, map(str, row["choices"]), strict=False))
        pictures = [row.get(f"image_{number}") for number in range(1, 5)]
        yield Question(
            id=str(row["idx"]),
            category=str(row["sub_task"]),
            text=str(row["prompt"]) + LETTER,
            answer=_letter(row["answer"]),
            judge="choice",
            pictures=tuple(_cell(picture, images) for picture in pictures if picture is not None),
            options=options,
        )


def _visulogic(path: Path, images: Path) -> Iterator[Question]:
    for row in _json_lines(path):
        yield Question(
            id=str(row["id"]),
            category=str(row.get("tag") or "all"),
            text=str(row["question"]) + LETTER,
            answer=_letter(row["label"]),
            judge="choice",
            pictures=(Picture(root=images, name=str(row["image_path"])),),
        )


def _3dsrbench(path: Path, images: Path) -> Iterator[Question]:
    csv.field_size_limit(sys.maxsize)  # an image is one cell
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))  # a row may point to a later one
    cells = {row["index"]: row["image"] for row in rows}
    for row in rows:
        options = {letter: row[letter] for letter in "ABCD" if row.get(letter)}
        listed = "\n".join(f"{letter}. {text}" for letter, text in options.items())
        cell = row["image"]
        if len(cell) <= LONGEST_INDEX:
            cell = cells.get(cell, "")
            if len(cell) <= LONGEST_INDEX:
                raise ValueError(
                    f"row {row['index']} has no image, and neither has row {row['image']!r}"
                )
        yield Question(
            id=str(row["index"]),
            category=str(row["category"]),
            text=f"{row['question']}\n{listed}{LETTER}",
            answer=_letter(row["answer"]),
            judge="choice",
            pictures=(Picture(content=base64.b64decode(cell, validate=True)),),
            options=options,
        )


def _spatialeval(path: Path, images: Path) -> Iterator[Question]:
    for row in _parquet_rows(path):
        picture = row.get("image")
        yield Question(
            id=str(row["id"]),
            category=str(row["id"]).partition(".")[0],
            text=str(row["text"]) + LETTER,
            answer=_letter(row["oracle_option"]),
            judge="choice",
            pictures=(_cell(picture, images),) if picture is not None else (),
        )


def _own(path: Path, images: Path, without: str = "") -> Iterator[Question]:
    for row in _parquet_rows(path, without):
        yield own_question(row, images)


def own_question(row: Mapping[str, Any], images: Path) -> Question:
    """The question of one row in our own layout.

    judge yes_no: `answer` is yes or no. choice: `answer` is a letter, `options` lists the texts of
    A, B, ... (left out where the question has them in it). exact: `answer` is the right answer.
    names: `names` and `vocabulary` as in Question. point: `point` is [x, y], beside `tolerance`.
    Raises KeyError, TypeError or ValueError where something is missing or of another kind.
    """
    judge = str(row["judge"])
    if judge not in get_args(Judge):
        raise ValueError(f"judge {judge!r} is none of {', '.join(get_args(Judge))}")
    further: dict[str, Any] = {}
    answer = str(row["answer"]).strip()
    if judge == "yes_no":
        answer = _yes_or_no(answer)
    elif judge == "choice":
        answer = _letter(answer)
        further["options"] = dict(zip(LETTERS, row.get("options") or (), strict=False))
    elif judge == "names":
        further["names"] = frozenset(row["names"])
        further["vocabulary"] = tuple(row["vocabulary"])
        unknown = further["names"] - {entry.split("|")[0] for entry in further["vocabulary"]}
        if unknown:
            raise ValueError(f"{sorted(unknown)} are not in the vocabulary")
    elif judge == "point":
        x, y = row["point"]
        further["point"] = (float(x), float(y))
        further["tolerance"] = float(row["tolerance"])
    picture = row.get("image")
    return Question(
        id=str(row["id"]),
        category=str(row.get("category") or "all"),
        text=str(row["question"]),
        answer=answer,
        judge=cast(Judge, judge),
        pictures=(_cell(picture, images),) if picture is not None else (),
        **further,
    )


def images_beside(suite: QuestionFile, base: Path) -> dict[str, int]:
    """Name -> bytes of the images outside the suite's file (-1: missing), to tell when they change.

    Formats that name images are read for their names; of others the whole folder `images` counts,
    where there is one. Images inside a file of ours are not read, so a name may belong to one of
    them: only names that exist outside count there.
    """
    if suite.format in ("pope", "visulogic", "own"):
        own = suite.format == "own"
        read = partial(_own, without="image.bytes") if own else READERS[suite.format]
        questions = _read(read, suite, base)
        pictures = {p.name: p for question in questions for p in question.pictures}
        sizes = {name: _size(p.root / name) for name, p in sorted(pictures.items()) if p.root}
        return {name: size for name, size in sizes.items() if size >= 0 or not own}
    folder = base / Path(suite.images).expanduser()
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if suite.images else []
    return {file.relative_to(folder).as_posix(): _size(file) for file in files}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


READERS: dict[str, Reader] = {
    "pope": _pope,
    "blink": _blink,
    "visulogic": _visulogic,
    "3dsrbench": _3dsrbench,
    "spatialeval": _spatialeval,
    "own": _own,
}


def _yes_or_no(label: Any) -> str:
    label = str(label).strip().lower()
    if label not in ("yes", "no"):
        raise ValueError(f"label {label!r} is neither yes nor no")
    return label


def _letter(answer: Any) -> str:
    letter = str(answer).strip().strip("().").upper()
    if len(letter) != 1 or letter not in LETTERS:
        raise ValueError(f"answer {answer!r} is no letter of a choice")
    return letter


def _cell(value: Any, images: Path) -> Picture:
    """The image of a cell of datasets' Image feature: its bytes, or the path of a file."""
    if value.get("bytes"):
        return Picture(content=value["bytes"])
    return Picture(root=images, name=str(value["path"]))


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def _parquet_rows(path: Path, without: str = "") -> Iterator[dict[str, Any]]:
    """without: a column, dotted where it lies inside another, that is not read."""
    import pyarrow.parquet as pq

    for name in sorted(path.rglob("*.parquet")) if path.is_dir() else [path]:
        file = pq.ParquetFile(name)
        columns = [file.schema.column(place).path for place in range(len(file.schema))]
        for batch in file.iter_batches(64, columns=[c for c in columns if c != without]):
            yield from batch.to_pylist()
