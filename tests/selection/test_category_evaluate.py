"""The evaluation command, and that docs/categories.md says what it says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from places import ROOT

from emt_core.errors import EmtError
from speed.category_accuracy import Labeled, accuracy, apart, judge, report

LABELED = ROOT / "tests" / "worlds" / "categories" / "labelled.jsonl"
FILES = (LABELED, LABELED.with_name("fresh.jsonl"), LABELED.with_name("held2.jsonl"))
SPLITS = [("held2", 400), ("held", 272), ("fresh", 170), ("tune", 276)]


@pytest.fixture(scope="module")
def judged():
    return [row for file in FILES for row in judge(file)]


@pytest.mark.parametrize(("split", "rows"), SPLITS)
def test_the_page_holds_what_a_fresh_run_gives(judged, split, rows):
    """Aggregates only: a failure here says that a judgment changed, not on which row."""
    page = (ROOT / "docs" / "categories.md").read_text(encoding="utf-8")
    block = page.split(f"<!-- {split} -->\n")[1].split(f"\n<!-- /{split} -->")[0]
    chosen = [row for row in judged if row.split == split]
    same = block == report(chosen)
    assert len(chosen) == rows
    assert same, (
        f"docs/categories.md is out of date: put in `python -m speed.category_accuracy --split {split}`"
    )


def test_the_command_prints_the_report(judged):
    command = [
        sys.executable,
        "-m",
        "speed.category_accuracy",
        "--file",
        str(LABELED),
        "--split",
        "tune",
    ]
    printed = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert printed == report([row for row in judged if row.split == "tune"]) + "\n"


def test_rows_near_a_training_text_can_be_left_out(judged):
    tune = [row for row in judged if row.split == "tune"]
    assert len(apart(tune)) < len(tune) / 4  # most of the tune half is trained on


def row(truth: str, predicted: str, *, hard: bool = False) -> Labeled:
    return Labeled(id="c0001", truth=truth, hard=hard, split="tune", predicted=predicted, asked="")


def test_unsure_is_wrong_and_sides_are_counted_together():
    rows = [
        row("spatial", "grounding"),
        row("text", "unsure", hard=True),
        row("chart", "chart"),
        row("vqa", "spatial"),
    ]
    text = report(rows)
    assert (
        "- all rows: 25.0% (1 of 4;" in text
        and "- hard rows: 0.0% (0 of 1;" in text
        and "- `unsure`: 1" in text
    )
    assert "- embodied side (spatial, grounding): precision 50.0%, recall 100.0%" in text
    assert "- reading side (text, chart): precision 100.0%, recall 50.0%" in text
    assert "| **text** |  |  |  |  |  |  |  |  | 1 |" in text


def test_no_rows_have_no_accuracy():
    assert accuracy([]).startswith("nan%")


@pytest.mark.parametrize("between", ["\u2028", "\u0085"])
def test_a_conversation_may_hold_what_python_takes_for_the_end_of_a_line(tmp_path, between):
    row = {
        "id": "c0001",
        "category": "text",
        "hard": False,
        "split": "tune",
        "conversations": [
            {"from": "human", "value": f"one{between}two"},
            {"from": "gpt", "value": "three"},
        ],
    }
    file = tmp_path / "rows.jsonl"
    file.write_text((json.dumps(row, ensure_ascii=False) + "\n") * 2, encoding="utf-8")
    assert [judged.id for judged in judge(file)] == ["c0001", "c0001"]


def test_a_bad_file_is_one_clear_message(tmp_path):
    with pytest.raises(EmtError, match="cannot be read"):
        judge(tmp_path / "none.jsonl")
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({"id": "c0001"}) + "\n")
    with pytest.raises(EmtError, match="line 1"):
        judge(bad)
