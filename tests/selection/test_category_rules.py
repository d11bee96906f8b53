"""The category rules: accuracy on the tune half, paraphrases, boundaries of GUIDE.md, look-up,
bounded time."""

from __future__ import annotations

import csv
import itertools
import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT

from emt_core.data.sample import Turn
from emt_core.selection.category import (
    CATEGORIES,
    agents,
    charts,
    demands,
    of_side,
    reading,
    relations,
    side_of,
)
from emt_core.selection.category.cue import Rule, Rules
from emt_core.selection.category.rules import classify
from emt_core.selection.category.turn import exchange
from speed.category_accuracy import judge

DATA = ROOT / "tests" / "worlds"
LABELED = DATA / "categories" / "labelled.jsonl"
TUNE_ACCURACY = 0.985
"""Reached: 100 %. A little below, so that a better rule may cost a row or two."""


def conversation(*texts: str) -> list[Turn]:
    return [
        Turn(role=role, text=text)
        for role, text in zip(itertools.cycle(("user", "assistant")), texts)
    ]


def ask(question: str, answer: str = "", *, images: int = 1) -> str:
    return classify(conversation("<image>\n" + question, answer), images).category


def paraphrases() -> list[dict[str, str]]:
    with (DATA / "category_paraphrases.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_tune_half_does_not_regress():
    rows = [row for row in judge(LABELED) if row.split == "tune"]
    wrong = [
        (row.id, row.truth, row.predicted, row.rule) for row in rows if row.truth != row.predicted
    ]
    assert len(rows) == 276
    assert 1 - len(wrong) / len(rows) >= TUNE_ACCURACY, wrong


def test_paraphrases_do_not_regress():
    """Our own questions, written before the rules were tried on them: a regression test by now, no
    measure."""
    rows = paraphrases()
    wrong = [
        row
        for row in rows
        if ask(row["question"].replace("\\n", "\n"), row["answer"]) != row["category"]
    ]
    assert len(rows) > 500 and len(wrong) / len(rows) <= 0.02, wrong


@pytest.mark.parametrize(
    ("question", "answer", "category"),
    [
        ("What is written left of the cup?", "SALE", "text"),
        ("What colour is the car left of the truck?", "red", "vqa"),
        ("What is left of the truck?", "a car", "spatial"),
        ("How many chairs are behind the table?", "4", "vqa"),
        ("Where is the dog?", "under the table", "spatial"),
        ("Where is the dog?", "[0.1, 0.2, 0.4, 0.5]", "grounding"),
        ("Where was this taken?", "in Paris", "vqa"),
        ("What is directly in front of the point (0.878, 0.780)?", "a stool", "spatial"),
        ("What is at the point (0.878, 0.780)?", "a stool", "grounding"),
        ("What does the sign in [0.1, 0.2, 0.3, 0.4] say?", "EXIT", "text"),
        ("Describe this chart.", "Sales rise from 2001 to 2010.", "chart"),
        ("Provide the bounding box of the tallest bar.", "[0.5, 0.1, 0.6, 0.9]", "grounding"),
        ("Is the robot's gripper open?", "no", "robot"),
        ("What colour is the block in the gripper?", "red", "vqa"),
        ("Which object is nearest to the gripper?", "the can", "spatial"),
        ("Write a poem about this picture.", "Roses are red", "other"),
        ("", "Vintage copper lamp, 30 cm", "caption"),
        ("What brand is this?", "unanswerable", "other"),
    ],
)
def test_boundaries_of_the_guide(question, answer, category):
    assert ask(question, answer) == category


def test_without_an_image_everything_is_other():
    assert ask("What is left of the cup?", "a plate", images=0) == "other"


def test_majority_of_user_turns_then_the_first():
    left = ("What is left of the cup?", "a plate")
    color = ("What color is it?", "red")
    sign = ("Read the sign.", "GO")
    assert classify(conversation(*left, *color, *sign), 1).category == "spatial"
    assert classify(conversation(*left, *color, *color), 1).category == "vqa"
    assert (
        classify(
            conversation(*left, *left, "Thank you!", "You are welcome.", *color, *color), 1
        ).category
        == "spatial"
    )


def test_case_unicode_and_typing_errors_do_not_matter():
    for text in (
        "DESCRIBE THIS IMAGE",
        "describe this imgae",
        "Ｄescribe  this\u00a0image…",
        "discribe teh picture",
    ):
        assert ask(text, "A cat on a mat.") == "caption", text
    assert ask("whats beetwen teh 2 cars???", "a bike") == "spatial"


def test_a_conversation_without_user_turn_is_unsure():
    assert classify([Turn(role="system", text="Be brief.")], 1).category == "unsure"


RULES = (
    demands.OTHER,
    demands.CAPTION,
    demands.POINTING,
    agents.AGENT,
    reading.TEXT,
    charts.NOUN,
    charts.DATA,
    relations.MEASURED,
    relations.ARRANGED,
)


def test_looking_phrases_up_by_their_words_changes_no_verdict():
    questions = [row["question"] for row in paraphrases()]
    questions += [
        turn["value"]
        for line in LABELED.read_text(encoding="utf-8").splitlines()
        if (row := json.loads(line))["split"] == "tune"
        for turn in row["conversations"]
        if turn["from"] == "human"
    ]
    for question in questions:
        turn = exchange(question, "")
        for rules in RULES:
            assert rules.first(turn) is rules.first_unfiled(turn), question


def test_a_phrase_that_could_start_with_any_word_is_refused():
    with pytest.raises(ValueError, match="no word that can be listed"):
        Rules(Rule("any", "vqa", (r"\w+ly",)))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_has_a_verdict(question, answer):
    verdict = classify(conversation(question, answer), 1)
    assert verdict.category in CATEGORIES and verdict.rule


ADVERSARIAL = (
    "a",
    " ",
    "\n",
    "left ",
    "what is ",
    "on the left of the ",
    "(",
    "[1,",
    "0.1,",
    "<point ",
    "a. b. ",
    "is the a ing ",
    "\u0301",
    "左",
    "describe the image of ",
    "what is standing sitting lying ",
    "please answer the question using a ",
)


def test_long_hostile_text_takes_bounded_time():
    """Text is cut to 2,400 characters and no pattern backtracks without bound: 0.25 s is 15 times
    the worst seen."""
    rng = random.Random(0)
    words = [word for row in paraphrases() for word in row["question"].split()]
    texts = [piece * (100_000 // len(piece)) for piece in ADVERSARIAL]
    texts += [" ".join(rng.choices(words, k=2_000)) for _ in range(50)]
    for text in texts:
        started = time.process_time()
        classify(conversation(text, text), 1)
        assert time.process_time() - started < 0.25, text[:40]


def test_sides_hold_the_papers_contrast():
    assert of_side("embodied") == ("spatial", "grounding") and of_side("reading") == (
        "text",
        "chart",
    )
    assert side_of("vqa") == "neither" and len(CATEGORIES) == 9
    with pytest.raises(KeyError):
        side_of("nonsense")
