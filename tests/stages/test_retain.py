"""retain: two models are asked the same questions; the run is interrupted and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from places import ROOT
from precision import auto_is
from pydantic import ValidationError
from question_suites import SUITES, png, suite, write_suites
from tiny_models import save_internvl, save_qwen3_vl

from emt_core.errors import EmtError
from emt_core.evaluation.questions.question import Picture, Question
from emt_core.evaluation.questions.retention import read_answers
from emt_core.recipe.retain import QuestionFile, RetainConfig


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suites(tmp_path_factory.mktemp("suites"))


DEMO = QuestionFile(format="own", path=str(ROOT / "assets/demo/questions.parquet"))


def test_questions_are_named_and_never_drawn():
    with pytest.raises(ValidationError, match=r"nothing is drawn .* leave demo and demo_seed out"):
        RetainConfig.model_validate({"demo": 5, "demo_seed": 1})
    with pytest.raises(ValidationError, match=r"files: .*format: own, path: .*questions\.parquet"):
        RetainConfig()


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
    """retain between a tiny VLM and another in place of a mid-trained one.

    The first run is cut off half way.
    """
    from types import SimpleNamespace

    from emt_core.evaluation.questions.answering import Answerer
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
    answers = Answerer.answers
    calls = []
    dtypes = set()

    def cut_off(self, questions):
        calls.append(len(questions))
        dtypes.add(self.vlm.dtype)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answers(self, questions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Answerer, "answers", cut_off)
        with pytest.raises(KeyboardInterrupt):
            retain.run(context)  # type: ignore[arg-type]
        kept = len(read_answers(out))
        calls[:] = [0] * 4  # from here on nothing is cut off
        auto_is(patch, torch.bfloat16)  # it was begun in float32
        outcome = retain.run(context)  # type: ignore[arg-type]
    assert dtypes == {torch.float32}
    return context, outcome, kept, sum(calls)


def test_two_models_answer_the_same_questions(asked):
    context, outcome, kept, answered = asked
    assert outcome.rows == 7 * 2 + 8 and kept == 8
    assert outcome.scratch == ("shards", "workers")
    assert (context.out / "shards").exists()  # the commit removes it
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
