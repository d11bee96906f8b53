"""The public suites, each read as it is distributed. What could be checked without the files is in docs/training.md.

pope         JSON lines: question_id, image (file name), text, label (yes | no); category: the file's name
blink        parquet: idx, sub_task, prompt, choices (list), answer `(A)`, image_1 .. image_4 (struct bytes, path)
visulogic    JSON lines: id, tag, question (choices in it), label (letter), image_path
3dsrbench    TSV (VLMEvalKit's): index, question, A .. D, answer (letter), category, image (base64, or the index of the
             row that has it)
spatialeval  parquet: id (`spatialmap.vqa.12`), text (choices in it), oracle_option (letter), image
"""

from __future__ import annotations

import base64
import binascii
import csv
import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError
from emt_core.evaluation.questions.question import Picture, Question
from emt_core.recipe.retain import QuestionFile

ONE_WORD = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
LETTERS = "ABCDEFGH"
LONGEST_INDEX = 64
"""VLMEvalKit's own bound: a shorter image cell is no image but the index of the row that has it, to save space."""


def read_suite(suite: QuestionFile, base: Path) -> list[Question]:
    """Its questions, in the file's order. Raises EmtError for a missing file, or a row that is not as it should be."""
    path = base / Path(suite.path).expanduser()
    if not path.exists():
        raise EmtError(
            "there is no such file of questions", where=path, remedy="check `path` of the suite"
        )
    images = base / Path(suite.images).expanduser() if suite.images else path.parent
    found: list[Question] = []
    try:
        found += islice(READERS[suite.format](path, images), suite.limit)
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise EmtError(
            f"a row is not what {suite.format} promises ({type(error).__name__}: {error})",
            where=path,
            remedy="docs/training.md shows the layout of each format",
        ) from error
    if not found:
        raise EmtError("the file holds no question", where=path)
    return found


def _pope(path: Path, images: Path) -> Iterator[Question]:
    for row in _json_lines(path):
        label = str(row["label"]).strip().lower()
        if label not in ("yes", "no"):
            raise ValueError(f"label {label!r} is neither yes nor no")
        yield Question(
            id=str(row["question_id"]),
            category=path.stem,
            text=str(row["text"]) + ONE_WORD,
            answer=label,
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


def images_beside(suite: QuestionFile, base: Path) -> dict[str, int]:
    """Name -> bytes of the images that lie outside the suite's file (-1: missing), for telling when they changed.

    Formats that name images are read for their names; of others the whole folder `images` counts, where there is one.
    """
    if suite.format in ("pope", "visulogic"):
        pictures = {p.name: p for question in read_suite(suite, base) for p in question.pictures}
        return {
            name: _size(picture.root / name)
            for name, picture in sorted(pictures.items())
            if picture.root
        }
    folder = base / Path(suite.images).expanduser()
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if suite.images else []
    return {file.relative_to(folder).as_posix(): _size(file) for file in files}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


READERS: dict[str, Callable[[Path, Path], Iterator[Question]]] = {
    "pope": _pope,
    "blink": _blink,
    "visulogic": _visulogic,
    "3dsrbench": _3dsrbench,
    "spatialeval": _spatialeval,
}


def _letter(answer: Any) -> str:
    letter = str(answer).strip().strip("().").upper()
    if len(letter) != 1 or letter not in LETTERS:
        raise ValueError(f"answer {answer!r} is no letter of a choice")
    return letter


def _cell(value: Any, images: Path) -> Picture:
    """datasets' Image feature: bytes, or a path where the bytes are elsewhere."""
    if value.get("bytes"):
        return Picture(content=value["bytes"])
    return Picture(root=images, name=str(value["path"]))


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=64):
            yield from batch.to_pylist()
