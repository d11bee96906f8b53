"""Public question files are read, and answers in free words are judged."""

from __future__ import annotations

import base64
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from question_suites import SUITES, png, suite, write_suites

from emt_core.errors import EmtError
from emt_core.evaluation.questions.question import Question
from emt_core.evaluation.questions.scoring import chosen_letter, is_right, yes_or_no
from emt_core.evaluation.questions.suites import images_beside, read_suite
from emt_core.recipe.retain import QuestionFile


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suites(tmp_path_factory.mktemp("suites"))


@pytest.mark.parametrize("name", SUITES)
def test_each_public_layout_is_read(files: Path, name: str):
    *_, count, category, answer = SUITES[name]
    questions = read_suite(suite(name), files)
    assert len(questions) == count
    assert (questions[0].category, questions[0].answer) == (category, answer)
    assert all(
        image.size == (20, 16) and image.mode == "RGB" for q in questions for image in q.images()
    )
    if name == "blink":
        assert [len(q.images()) for q in questions] == [2, 1] and questions[0].options == {
            "A": "1",
            "B": "2",
        }


def test_our_own_layout_is_read_and_judged(tmp_path: Path):
    rows = [
        {"judge": "yes_no", "answer": "Yes", "right": "yes.", "wrong": "no"},
        {
            "judge": "choice",
            "answer": "(b)",
            "options": ["up", "down"],
            "right": "down",
            "wrong": "A",
        },
        {"judge": "choice", "answer": "A", "right": "A.", "wrong": "B"},
        {"judge": "exact", "answer": "QX 7", "right": " QX 7\n", "wrong": "qx 7"},
        {
            "judge": "names",
            "answer": "two geese",
            "names": ["goose"],
            "vocabulary": ["dog|dogs", "goose|geese", "hot dog|hot dogs"],
            "right": "Some geese, I think.",
            "wrong": "geese and a hot dog",
        },
        {
            "judge": "point",
            "answer": "(0.30, 0.40)",
            "point": [0.304, 0.4],
            "tolerance": 0.1,
            "right": "at (0.40, 0.4)",
            "wrong": "(0.41, 0.4)",
        },
    ]
    image = {"bytes": None, "path": "one.png"}
    (tmp_path / "one.png").write_bytes(png())

    def written(rows: list[dict]) -> QuestionFile:
        asked = [
            {"id": str(i), "question": "?", "image": image} | row for i, row in enumerate(rows)
        ]
        columns = sorted({name for row in asked for name in row})
        table = pa.table({name: [row.get(name) for row in asked] for name in columns})
        pq.write_table(table, tmp_path / "own.parquet")
        return QuestionFile(format="own", path="own.parquet")

    questions = read_suite(written(rows), tmp_path)
    assert [q.images()[0].size for q in questions] == [(20, 16)] * len(rows)
    for question, row in zip(questions, rows, strict=True):
        assert is_right(question, row["right"]) and not is_right(question, row["wrong"])
    for wrong in (
        {"judge": "taste"},
        {"judge": "yes_no", "answer": "perhaps"},
        {"judge": "choice", "answer": "the second"},
        {"judge": "names", "names": ["cat"]},
        {"judge": "point", "point": [0.1]},
        {"judge": "point", "point": None},
    ):
        with pytest.raises(EmtError, match="not what own promises"):
            read_suite(written([rows[-1] | rows[-2] | wrong]), tmp_path)


def test_images_beside_a_file_are_those_that_its_questions_name(tmp_path: Path):
    (tmp_path / "one.png").write_bytes(png())
    images = [
        {"bytes": png(), "path": "both.png"},
        {"bytes": png(), "path": None},
        None,
        {"bytes": None, "path": "one.png"},
        {"bytes": None, "path": "missing.png"},
    ]
    row = {"question": "?", "judge": "choice", "answer": "A", "options": ["up", "down"]}
    rows = [row | {"id": str(i), "image": image} for i, image in enumerate(images * 40)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "own.parquet", row_group_size=70)
    file = QuestionFile(format="own", path="own.parquet")
    assert images_beside(file, tmp_path) == {"one.png": len(png())}
    (tmp_path / "missing.png").write_bytes(b"now here")
    assert images_beside(file, tmp_path) == {"missing.png": 8, "one.png": len(png())}
    first = QuestionFile(format="own", path="own.parquet", limit=3)
    assert images_beside(first, tmp_path) == {}


def test_images_inside_a_file_are_not_read_to_name_those_beside_it(tmp_path: Path):
    """The bytes of the images are made unreadable: only who does not look gets through."""
    rows = [
        {"id": str(i), "question": "?", "judge": "exact", "answer": "a"}
        | {"image": {"bytes": bytes([i]) * 9000, "path": f"{i}.png"}}
        for i in range(9)
    ]
    path = tmp_path / "own.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(place) for place in range(group.num_columns)]
    (chunk,) = [column for column in columns if column.path_in_schema == "image.bytes"]
    with path.open("r+b") as file:
        file.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
        file.write(b"\xff" * chunk.total_compressed_size)
    suite = QuestionFile(format="own", path="own.parquet")
    assert images_beside(suite, tmp_path) == {}
    with pytest.raises(OSError):
        read_suite(suite, tmp_path)


def test_what_is_wrong_with_a_file_is_said(files: Path, tmp_path: Path):
    with pytest.raises(EmtError, match="no such file"):
        read_suite(QuestionFile(format="pope", path="nothing.json"), tmp_path)
    (tmp_path / "bad.json").write_text(
        '{"question_id": 1, "image": "../../secret.png", "text": "?", "label": "yes"}\n'
    )
    (question,) = read_suite(QuestionFile(format="pope", path="bad.json"), tmp_path)
    with pytest.raises(EmtError, match="cannot be had"):
        question.images()
    for line in (
        '{"question_id": 1, "image": "a.png", "text": "?", "label": "perhaps"}',
        '{"text": "?"}',
        "[1]",
        "{",
    ):
        (tmp_path / "bad.json").write_text(line + "\n")
        with pytest.raises(EmtError, match="not what pope promises"):
            read_suite(QuestionFile(format="pope", path="bad.json"), tmp_path)


def test_answers_in_free_words_are_judged():
    said = {
        "Yes, there is.": "yes",
        "no": "no",
        "There is not.": None,
        "Nothing": None,
        "YES": "yes",
    }
    assert {text: yes_or_no(text) for text in said} == said
    options = {"A": "the cup", "B": "the box"}
    chosen = {
        "B": "B",
        "(B)": "B",
        "B. the box": "B",
        "The answer is A": "A",
        r"so \boxed{B}": "B",
        "the box": "B",
        "the cup or the box": None,
        "Because of the light": None,
        "E": None,
        "": None,
    }
    assert {text: chosen_letter(text, options) for text in chosen} == chosen
    question = Question(id="1", category="", text="", answer="yes", judge="yes_no")
    assert is_right(question, "Yes.") and not is_right(question, "No.")


def test_the_article_is_not_the_first_option():
    options = {"A": "a dog on the left", "B": "a dog on the right", "C": "left"}
    chosen = {
        "A dog on the right": "B",
        "The answer is A dog on the right.": "B",
        "The answer is a dog on the left": "A",  # it names C's text as well, which lies in A's
        "A cat": None,
        "a": "A",
        "b": "B",
        "b.": "B",
        "**B**": "B",
        "c) left": "C",
        "It is (b).": "B",
        "It is (a) or (b)": None,
        "answer: b": "B",
        "The answer is A because it is near": "A",
        "B because it is near": "B",
        "A, I think": "A",
        "There is no answer. A cat is there": None,
        "The answer is: **B**.": "B",
        "leftmost": None,
    }
    assert {text: chosen_letter(text, options) for text in chosen} == chosen
    assert chosen_letter("A cup is higher, so it cannot be told", {}) is None
    assert chosen_letter("12", {"A": "1", "B": "12"}) == "B"


def test_an_image_cell_may_be_the_index_of_the_row_that_has_it(tmp_path: Path):
    images = {
        "7": base64.b64encode(png()).decode(),
        "5": "7",
        "9": "7",
    }  # one points ahead, one back
    columns = ["index", "question", "A", "B", "answer", "category", "image"]

    def written(images: dict[str, str]) -> QuestionFile:
        lines = ["\t".join(columns)]
        lines += [
            "\t".join([index, "?", "up", "down", "A", "height", image])
            for index, image in images.items()
        ]
        (tmp_path / "t.tsv").write_text("\n".join(lines) + "\n")
        return QuestionFile(format="3dsrbench", path="t.tsv")

    ordered = {index: images[index] for index in ("5", "7", "9")}
    questions = read_suite(written(ordered), tmp_path)
    assert [question.id for question in questions] == ["5", "7", "9"]
    assert {question.pictures[0].content for question in questions} == {png()}
    for nowhere in ("8", "5"):  # no such row; a row that points to itself
        with pytest.raises(EmtError, match="row 5 has no image"):
            read_suite(written(ordered | {"5": nowhere}), tmp_path)
