"""The category classifier: boundaries of GUIDE.md, conversations, evidence, own categories,
bounded time, and that the builder gives the shipped weights."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT

from emt_core.data.sample import Turn
from emt_core.selection.category import CATEGORIES, of_side, side_of
from emt_core.selection.category.classifier import Classifier, Judgment, shipped_classifier
from emt_core.selection.category.conversation import classify
from emt_core.selection.category.training import fit, labeled_texts, templates, training_texts
from emt_core.selection.category.turn import exchange

LABELED = ROOT / "tests" / "worlds" / "categories" / "labelled.jsonl"
FRESH = LABELED.with_name("fresh.jsonl")
DEV = LABELED.with_name("dev.jsonl")
HELD2 = LABELED.with_name("held2.jsonl")
ALIKE = "h0045"
"""A stock question that two authors wrote alike, without knowing of each other."""


def conversation(*texts: str) -> list[Turn]:
    return [
        Turn(role=role, text=text)
        for role, text in zip(itertools.cycle(("user", "assistant")), texts)
    ]


def judge(turns: list[Turn], *, images: int = 1) -> Judgment:
    return classify([(turns, images)], shipped_classifier())[0]


def ask(question: str, answer: str = "", *, images: int = 1) -> str:
    return judge(conversation("<image>\n" + question, answer), images=images).category


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
        ("Wie viele Hunde sind auf dem Bild?", "Drei", "vqa"),
        ("猫在桌子的左边吗？", "是的", "spatial"),
    ],
)
def test_boundaries_of_the_guide(question, answer, category):
    assert ask(question, answer) == category


@pytest.mark.parametrize(
    ("question", "answer", "category"),
    [
        ("How many zebras are present in the picture?", "3", "vqa"),
        ("Are any boats present in the image?", "no", "vqa"),
        ("Is the actress inside the red bounding box called Ida Krog?", "yes", "vqa"),
        ("Which article of clothing is hanging on the line?", "shirt", "vqa"),
        ("What is the main action of the girl?", "jumping", "vqa"),
        ("What color is the jug on top of the table?", "blue", "vqa"),
        ("what is the name of the shop?", "marlow's", "text"),
        ("Where is the jug relative to the plate?\nA. left\nB. right\nC. behind", "B", "spatial"),
        ("Which of them is nearer?\n(A) the jug\n(B) the plate", "(A)", "spatial"),
    ],
)
def test_misfires_of_the_patterns_that_stood_here_before(question, answer, category):
    assert ask(question, answer) == category


@pytest.mark.parametrize(
    ("question", "answer", "category"),
    [
        ("Is the fridge near the door small or large?", "small", "vqa"),
        ("Is the man to the left of the suitcase wearing sandals?", "yes", "vqa"),
        ("What material is the bench in front of the shops made of?", "stone", "vqa"),
        ("What fruits are beneath the shelf?", "apples", "spatial"),
        ("Which kind of animal is above the rock?", "goat", "spatial"),
        ("What is the lady in front of?", "a fountain", "spatial"),
    ],
)
def test_a_relation_that_picks_the_referent_is_told_from_one_that_is_asked(
    question, answer, category
):
    assert ask(question, answer) == category


def test_an_unknown_word_of_an_answer_counts_as_a_name_that_was_read():
    def text_share(answer: str) -> float:
        judgment = judge(conversation("<image>\nWhat kind of beer is this?", answer))
        return judgment.probability if judgment.category == "text" else 0.0

    assert text_share("Zwickelbrunn") > 0.5


def test_without_an_image_everything_is_other():
    assert ask("What is left of the cup?", "a plate", images=0) == "other"


def test_majority_of_user_turns_then_the_first():
    left = ("What is left of the cup?", "a plate")
    color = ("What color is it?", "red")
    sign = ("Read the sign.", "GO")
    assert judge(conversation(*left, *color, *sign)).category == "spatial"
    assert judge(conversation(*left, *color, *color)).category == "vqa"
    thanks = ("Thank you!", "You are welcome.")
    assert judge(conversation(*left, *left, *thanks, *color, *color)).category == "spatial"


def test_a_follow_up_repeats_the_question_before_it():
    chart = ("What is the largest slice of the pie chart?", "Marketing, 38 %")
    turns = conversation("What color is the wall?", "red", *chart, "And the smallest?", "Legal")
    assert judge(turns).category == "chart"


def test_case_unicode_and_typing_errors_do_not_matter():
    for text in (
        "DESCRIBE THIS IMAGE",
        "describe this imgae",
        "Ｄescribe  this\u00a0image…",
        "discribe teh picture",
    ):
        assert ask(text, "A cat on a mat.") == "caption", text


def test_a_conversation_without_user_turn_is_unsure():
    assert judge([Turn(role="system", text="Be brief.")]).category == "unsure"


def test_unsure_where_no_category_is_likely_enough():
    """No known word, or a probability below the threshold."""
    assert ask("hmm", "well") == "unsure"
    weak = Classifier(("vqa", "text"), {"q:sign": 0}, np.ones(1), np.zeros((1, 2)), np.zeros(2))
    assert weak.judge([exchange("sign", "")])[0].category == "vqa"
    four = Classifier("abcd", {"q:sign": 0}, np.ones(1), np.zeros((1, 4)), np.zeros(4))
    assert four.judge([exchange("sign", "")])[0].category == "unsure"


def test_evidence_names_the_words_that_decided():
    judgment = judge(conversation("<image>\nIs the dog left of the chair?", "yes"))
    assert "left" in judgment.evidence and judgment.probability > 0.9
    judgment = judge(conversation("<image>\nWhere is it?", "[0.1, 0.2, 0.4, 0.5]"))
    assert "answer: <" in judgment.evidence


def test_a_judgment_does_not_depend_on_its_batch():
    rows = [json.loads(line) for line in FRESH.read_text(encoding="utf-8").splitlines()]
    all_of_them = [
        (conversation(*(turn["value"] for turn in row["conversations"])), 1) for row in rows
    ]
    alone = [classify([one], shipped_classifier())[0] for one in all_of_them]
    assert classify(all_of_them, shipped_classifier()) == alone
    assert classify(all_of_them[::-1], shipped_classifier()) == alone[::-1]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_has_a_judgment(question, answer):
    judgment = judge(conversation(question, answer))
    assert judgment.category in CATEGORIES and judgment.evidence


ADVERSARIAL = ("a", " ", "\n", "left ", "(", "[1,", "0.1,", "<point ", "a. b. ", "\u0301", "左")


def test_long_hostile_text_takes_bounded_time():
    """Text is cut to 1,800 characters: 0.25 s is ten times the worst seen."""
    rng = random.Random(0)
    known = [word for text in labeled_texts() for word in text.question.split()]
    texts = [piece * (100_000 // len(piece)) for piece in ADVERSARIAL]
    texts += [" ".join(rng.choices(known, k=2_000)) for _ in range(20)]
    for text in texts:
        started = time.process_time()
        judge(conversation(text, text))
        assert time.process_time() - started < 0.25, text[:40]


def test_training_takes_the_tune_half_and_no_row_that_measures():
    trained = {exchange(text.question, text.answer) for text in labeled_texts()}
    rows = [json.loads(line) for line in LABELED.read_text(encoding="utf-8").splitlines()]
    for file in (FRESH, DEV, HELD2):
        rows += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        turns = [turn["value"] for turn in row["conversations"]]
        if len(turns) == 2 and "<image>" in turns[0]:
            found = exchange(*turns) in trained
            assert found == (row["split"] == "tune" or row["id"] == ALIKE), row["id"]


def test_every_template_is_well_formed_and_of_a_known_category():
    for category, template in templates():
        assert category in CATEGORIES, template
        assert template.count("(") == template.count(")") and "=>" in template, template


@pytest.fixture(scope="module")
def with_weather() -> Classifier:
    examples = (
        "What is the weather like? => sunny",
        "Is it raining? => no",
        "How is the weather in this picture? => It is cloudy.",
        "Does it look like it will snow? => yes",
        "Is the sky overcast? => yes",
        "Is it windy? => Yes, the trees bend.",
        "What kind of weather is it? => foggy",
        "Is there a storm coming? => no",
    )
    return fit(training_texts({"weather": examples}))


def test_a_category_of_ones_own_is_learned_from_examples(with_weather):
    assert "weather" in with_weather.categories

    def category(question: str, answer: str) -> str:
        return classify([(conversation(question, answer), 1)], with_weather)[0].category

    assert category("What is the weather today?", "rainy") == "weather"
    assert category("Is the weather good for a picnic?", "yes") == "weather"
    assert category("What is left of the truck?", "a car") == "spatial"
    assert category("What color is the cat?", "red") == "vqa"


@pytest.mark.slow
def test_the_builder_gives_the_shipped_weights():
    """The same n-grams, and the same judgments but for the arithmetic of another machine."""
    built, shipped = fit(training_texts({})), shipped_classifier()
    assert built.categories == shipped.categories
    assert list(built.vocabulary) == list(shipped.vocabulary)
    exchanges = [exchange(text.question, text.answer) for text in labeled_texts()]
    pairs = list(zip(built.judge(exchanges), shipped.judge(exchanges), strict=True))
    assert np.mean([a.category == b.category for a, b in pairs]) > 0.995
    assert max(abs(a.probability - b.probability) for a, b in pairs) < 0.1


def test_the_shipped_classifier_needs_no_scikit_learn():
    code = (
        "import sys; from emt_core.selection.category.classifier import shipped_classifier;"
        "shipped_classifier(); sys.exit('sklearn' in sys.modules or 'scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_sides_hold_the_papers_contrast():
    assert of_side("embodied") == ("spatial", "grounding")
    assert of_side("reading") == ("text", "chart")
    assert side_of("vqa") == "neither" and len(CATEGORIES) == 9
    with pytest.raises(KeyError):
        side_of("nonsense")
