"""retain: public question files read and scored, two models asked the same, interrupted and resumed."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from places import ROOT
from pydantic import ValidationError
from tiny_models import save_internvl, save_qwen3_vl

from emt_core.errors import EmtError
from emt_core.evaluation.questions.question import Picture, Question
from emt_core.evaluation.questions.scoring import chosen_letter, is_right, yes_or_no
from emt_core.evaluation.questions.suites import read_suite
from emt_core.recipe.retain import QuestionFile, RetainConfig


def png(color: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 16), color).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small file in each public layout."""
    base = tmp_path_factory.mktemp("suites")
    (base / "val").mkdir()
    (base / "val" / "one.png").write_bytes(png())
    pope = [
        {
            "question_id": i,
            "image": "one.png",
            "text": f"Is there a {thing} in the image?",
            "label": label,
        }
        for i, (thing, label) in enumerate((("cup", "yes"), ("dog", "no")), start=1)
    ]
    (base / "coco_pope_random.json").write_text("\n".join(map(json.dumps, pope)) + "\n")
    image = {"bytes": png(), "path": "a.png"}
    blink = {
        "idx": ["val_Counting_1", "val_Counting_2", "test_1"],
        "sub_task": ["Counting"] * 3,
        "prompt": ["How many? (A) 1 (B) 2"] * 3,
        "choices": [["1", "2"]] * 3,
        "answer": ["(B)", "(A)", "hidden"],
        "image_1": [image] * 3,
        "image_2": [image, None, None],
    }
    (base / "blink").mkdir()
    pq.write_table(pa.table(blink), base / "blink" / "val-00000-of-00001.parquet")
    visulogic = {
        "id": "00001",
        "tag": "Spatial Reasoning",
        "question": "A, B, C, or D?",
        "label": "C",
        "image_path": "val/one.png",
    }
    (base / "data.jsonl").write_text(json.dumps(visulogic) + "\n")
    with (base / "3dsr.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(
            file,
            ["index", "question", "A", "B", "C", "D", "answer", "category", "image"],
            delimiter="\t",
        )
        writer.writeheader()
        encoded = base64.b64encode(png()).decode()
        row = {
            "index": 7,
            "question": "Which is higher?",
            "A": "the cup",
            "B": "the box",
            "answer": "B",
        }
        writer.writerow(row | {"category": "height_higher", "image": encoded})
    spatial = {
        "id": ["spatialmap.vqa.0", "mazenav.vqa.3"],
        "text": ["Where is it? A. North B. South"] * 2,
        "oracle_answer": ["South", "North"],
        "oracle_option": ["B", "A"],
        "image": [image, image],
    }
    pq.write_table(pa.table(spatial), base / "spatial.parquet")
    return base


SUITES = {
    "pope": ("coco_pope_random.json", "val", 2, "coco_pope_random", "yes"),
    "blink": ("blink", "", 2, "Counting", "B"),
    "visulogic": ("data.jsonl", "", 1, "Spatial Reasoning", "C"),
    "3dsrbench": ("3dsr.tsv", "", 1, "height_higher", "B"),
    "spatialeval": ("spatial.parquet", "", 2, "spatialmap", "B"),
}


DEMO = QuestionFile(format="own", path=str(ROOT / "assets/demo/questions.parquet"))


def suite(name: str) -> QuestionFile:
    path, images, *_ = SUITES[name]
    return QuestionFile.model_validate({"format": name, "path": path, "images": images})


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


def test_questions_are_named_and_never_drawn():
    with pytest.raises(ValidationError, match=r"nothing is drawn .* leave demo and demo_seed out"):
        RetainConfig.model_validate({"demo": 5, "demo_seed": 1})
    with pytest.raises(ValidationError, match=r"files: .*format: own, path: .*questions\.parquet"):
        RetainConfig()


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


def test_a_suites_identity_knows_every_file_and_its_images(files: Path, tmp_path: Path):
    from emt_core.stages import retain

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"x")
    for task in ("Counting", "Jigsaw"):
        (tmp_path / "BLINK" / task).mkdir(parents=True)
        (tmp_path / "BLINK" / task / "val-00000-of-00001.parquet").write_bytes(task.encode())
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "one.png").write_bytes(png())
    (tmp_path / "pope.json").write_bytes((files / "coco_pope_random.json").read_bytes())
    suites = {
        "b": {"format": "blink", "path": "BLINK"},
        "p": {"format": "pope", "path": "pope.json", "images": "val"},
    }
    config = RetainConfig(
        model="model", files={k: QuestionFile.model_validate(v) for k, v in suites.items()}
    )

    before = retain.identity(config, tmp_path)["suites"]
    assert set(before["b"]["files"]) == {
        f"{task}/val-00000-of-00001.parquet" for task in ("Counting", "Jigsaw")
    }
    (tmp_path / "BLINK" / "Counting" / "val-00000-of-00001.parquet").write_bytes(b"changed")
    (tmp_path / "val" / "one.png").write_bytes(png() + b" ")
    after = retain.identity(config, tmp_path)["suites"]
    assert after["b"] != before["b"]
    assert (
        after["p"]["files"] == before["p"]["files"]
        and after["p"]["images"] != before["p"]["images"]
    )


def test_answers_are_kept_up_to_the_line_that_was_cut(tmp_path: Path):
    from emt_core.evaluation.questions.retention import read_answers

    path, odd = tmp_path / "origin.jsonl", "one\u2028two\x85three"
    lines = [
        json.dumps({"suite": "s", "id": i, "answer": odd}, ensure_ascii=False).encode() + b"\n"
        for i in "123"
    ]
    whole = lines[0] + lines[1]
    for cut in (
        lines[2][:-1],
        lines[2][: lines[2].index("\u2028".encode()) + 1],
    ):  # before its end, inside a letter
        path.write_bytes(whole + cut)
        assert read_answers(path) == {("s", "1"): odd, ("s", "2"): odd}
        assert path.read_bytes() == whole


@pytest.mark.parametrize("save", [save_internvl, save_qwen3_vl])
def test_an_answer_does_not_depend_on_its_batch(tmp_path: Path, save):
    from emt_core.evaluation.questions.answering import Answerer

    answerer = Answerer(str(save(tmp_path / "model")), device="cpu", max_new_tokens=6)
    questions = [
        Question(
            id=str(i),
            category="",
            text="Is it red? " * (1 + 3 * i),
            answer="yes",
            judge="yes_no",
            pictures=pictures,
        )
        for i, pictures in enumerate(
            ((Picture(content=png()),), (), (Picture(content=png((0, 0, 0))),))
        )
    ]
    together = answerer.answers(questions)
    assert together == [answerer.answers([question])[0] for question in questions]


@pytest.fixture(scope="module")
def asked(files: Path, tmp_path_factory: pytest.TempPathFactory):
    """retain between a tiny VLM and another, in place of a mid-trained one; the first run is cut off half way."""
    from types import SimpleNamespace

    from emt_core.evaluation.questions.answering import Answerer
    from emt_core.evaluation.questions.retention import read_answers
    from emt_core.recipe.base import Runtime
    from emt_core.stages import retain
    from emt_core.workspace.progress import Progress

    save_internvl(files / "origin")
    save_internvl(files / "mid" / "model", seed=1)
    config = RetainConfig(
        model="origin",
        files={"demo": DEMO.model_copy(update={"limit": 14})}
        | {name: suite(name) for name in SUITES},
        max_new_tokens=4,
    )
    identity = retain.identity(config, files)
    trained_from = {name: value for name, value in identity.items() if name != "suites"}
    out = tmp_path_factory.mktemp("retain")
    context = SimpleNamespace(
        config=config,
        identity=identity,
        base=files,
        parents={
            "midtrain": SimpleNamespace(manifest={"identity": trained_from}, data=files / "mid")
        },
        out=out,
        runtime=Runtime(batch=4, device="cpu"),
        progress=Progress(label="retain", quiet=True),
    )
    answers, calls = Answerer.answers, []

    def cut_off(self, questions):
        calls.append(len(questions))
        if len(calls) == 3:
            with (out / "origin.jsonl").open("a") as file:
                file.write('{"suite": "demo", "id": "cut')
            raise KeyboardInterrupt
        return answers(self, questions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Answerer, "answers", cut_off)
        with pytest.raises(KeyboardInterrupt):
            retain.run(context)  # type: ignore[arg-type]
        kept = len(read_answers(out / "origin.jsonl"))
        calls[:] = [0] * 4  # from here on nothing is cut off
        outcome = retain.run(context)  # type: ignore[arg-type]
    return context, outcome, kept, sum(calls)


def test_two_models_answer_the_same_questions(asked):
    context, outcome, kept, answered = asked
    assert outcome.rows == 7 * 2 + 8 and kept == 8
    assert outcome.scratch == ("origin.jsonl", "midtrained.jsonl")
    assert all((context.out / name).exists() for name in outcome.scratch)
    assert answered == 2 * outcome.rows - kept, (
        "what was answered before the cut is not asked again"
    )
    rows = pq.read_table(context.out / "answers.parquet").to_pylist()
    results = json.loads((context.out / "results.json").read_text())
    assert set(results) == {"demo", *SUITES}
    for name, groups in results.items():
        mine = [row for row in rows if row["suite"] == name]
        assert groups["all"]["n"] == len(mine)
        for side in ("origin", "midtrained"):
            rate = groups["all"][side]
            assert rate["rate"] == sum(row[f"{side}_correct"] for row in mine) / len(mine)
            assert 0 <= rate["low"] <= rate["rate"] <= rate["high"] <= 1
    assert {*results["demo"]} == {
        "all",
        "caption",
        "count",
        "colour",
        "read",
        "chart",
        "spatial",
        "point",
    }


def test_another_origin_is_refused(asked):
    from types import SimpleNamespace

    from emt_core.stages import retain

    context, *_ = asked
    other = SimpleNamespace(**{**vars(context), "identity": {"files": {}, "suites": {}}})
    with pytest.raises(EmtError, match="not the one that was mid-trained"):
        retain.run(other)  # type: ignore[arg-type]
