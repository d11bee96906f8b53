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
from encoders.tiny_models import save_internvl, save_qwen3_vl
from PIL import Image

from emt_core.errors import EmtError
from emt_core.questions.public import read_suite
from emt_core.questions.question import Question
from emt_core.questions.scoring import chosen_letter, is_right, yes_or_no
from emt_core.train_config import QuestionFile, RetainConfig


def png(colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 16), colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small file in each public layout."""
    base = tmp_path_factory.mktemp("suites")
    (base / "val").mkdir()
    (base / "val" / "one.png").write_bytes(png())
    pope = [
        {"question_id": i, "image": "one.png", "text": f"Is there a {thing} in the image?", "label": label}
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
            file, ["index", "question", "A", "B", "C", "D", "answer", "category", "image"], delimiter="\t"
        )
        writer.writeheader()
        encoded = base64.b64encode(png()).decode()
        row = {"index": 7, "question": "Which is higher?", "A": "the cup", "B": "the box", "answer": "B"}
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


def suite(name: str) -> QuestionFile:
    path, images, *_ = SUITES[name]
    return QuestionFile.model_validate({"format": name, "path": path, "images": images})


@pytest.mark.parametrize("name", SUITES)
def test_each_public_layout_is_read(files: Path, name: str):
    *_, count, category, answer = SUITES[name]
    questions = read_suite(suite(name), files)
    assert len(questions) == count
    assert (questions[0].category, questions[0].answer) == (category, answer)
    assert all(image.size == (20, 16) and image.mode == "RGB" for q in questions for image in q.images())
    if name == "blink":
        assert [len(q.images()) for q in questions] == [2, 1] and questions[0].options == {"A": "1", "B": "2"}


def test_what_is_wrong_with_a_file_is_said(files: Path, tmp_path: Path):
    with pytest.raises(EmtError, match="no such file"):
        read_suite(QuestionFile(format="pope", path="nothing.json"), tmp_path)
    (tmp_path / "bad.json").write_text('{"question_id": 1, "image": "../../secret.png", "text": "?", "label": "yes"}\n')
    (question,) = read_suite(QuestionFile(format="pope", path="bad.json"), tmp_path)
    with pytest.raises(EmtError, match="cannot be had"):
        question.images()
    for line in ('{"question_id": 1, "image": "a.png", "text": "?", "label": "perhaps"}', '{"text": "?"}', "[1]", "{"):
        (tmp_path / "bad.json").write_text(line + "\n")
        with pytest.raises(EmtError, match="not what pope promises"):
            read_suite(QuestionFile(format="pope", path="bad.json"), tmp_path)


def test_answers_in_free_words_are_judged():
    said = {"Yes, there is.": "yes", "no": "no", "There is not.": None, "Nothing": None, "YES": "yes"}
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
    assert chosen_letter("A cup is higher, so: B", {}) == "A"  # a rule, not a reader: it is written down
    question = Question(id="1", category="", text="", answer="yes", judge="yes_no")
    assert is_right(question, "Yes.") and not is_right(question, "No.")


@pytest.mark.parametrize("save", [save_internvl, save_qwen3_vl])
def test_an_answer_does_not_depend_on_its_batch(tmp_path: Path, save):
    from emt_core.questions.answering import Answerer

    answerer = Answerer(str(save(tmp_path / "model")), device="cpu", max_new_tokens=6)
    questions = [
        Question(id=str(i), category="", text="Is it red? " * (1 + 3 * i), answer="yes", judge="yes_no", image=image)
        for i, image in enumerate((Image.new("RGB", (40, 40), (250, 9, 9)), None, Image.new("RGB", (64, 32))))
    ]
    together = answerer.answers(questions)
    assert together == [answerer.answers([question])[0] for question in questions]


@pytest.fixture(scope="module")
def asked(files: Path, tmp_path_factory: pytest.TempPathFactory):
    """retain between a tiny VLM and another, in place of a mid-trained one; the first run is cut off half way."""
    from types import SimpleNamespace

    from emt_core.progress import Progress
    from emt_core.questions.answering import Answerer
    from emt_core.stage_config import Runtime
    from emt_core.stages import retain

    save_internvl(files / "origin")
    save_internvl(files / "mid" / "model", seed=1)
    config = RetainConfig(model="origin", demo=2, files={name: suite(name) for name in SUITES}, max_new_tokens=4)
    identity = retain.identity(config, files)
    trained_from = {name: value for name, value in identity.items() if name != "suites"}
    out = tmp_path_factory.mktemp("retain")
    context = SimpleNamespace(
        config=config,
        identity=identity,
        base=files,
        parents={"midtrain": SimpleNamespace(manifest={"identity": trained_from}, data=files / "mid")},
        out=out,
        runtime=Runtime(batch_size=4, device="cpu"),
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
        kept = len(retain.read_answers(out / "origin.jsonl"))
        calls[:] = [0] * 4  # from here on nothing is cut off
        outcome = retain.run(context)  # type: ignore[arg-type]
    return context, outcome, kept, sum(calls)


def test_two_models_answer_the_same_questions(asked):
    context, outcome, kept, answered = asked
    assert outcome.rows == 7 * 2 + 8 and kept == 8
    assert answered == 2 * outcome.rows - kept, "what was answered before the cut is not asked again"
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
    assert {*results["demo"]} == {"all", "caption", "count", "colour", "read", "chart", "spatial", "point"}
    assert not list(context.out.glob("*.jsonl"))


def test_another_origin_is_refused(asked):
    from types import SimpleNamespace

    from emt_core.stages import retain

    context, *_ = asked
    other = SimpleNamespace(**{**vars(context), "identity": {"files": {}, "suites": {}}})
    with pytest.raises(EmtError, match="not the one that was mid-trained"):
        retain.run(other)  # type: ignore[arg-type]
