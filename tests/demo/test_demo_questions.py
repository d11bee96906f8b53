"""The shipped file of held-out questions is what its builder draws, and is judged as the probe
judges."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from places import ROOT

from demo.drawing import fonts_available
from demo.probe import correct
from demo.questions import KINDS, PER_KIND, SEED, held_out, question_rows
from emt_core.evaluation.questions.scoring import is_right, names_in
from emt_core.evaluation.questions.suites import own_question, read_suite
from emt_core.recipe.retain import QuestionFile

FILE = ROOT / "assets" / "demo" / "questions.parquet"
SHIPPED = read_suite(QuestionFile(format="own", path=str(FILE)), Path())
drawn = pytest.mark.skipif(
    not fonts_available(), reason="drawing needs the Debian fonts of docs/tiny_vlm.md"
)


def test_the_file_is_small_and_has_a_hundred_questions_of_each_kind():
    assert FILE.stat().st_size < 1_500_000
    assert Counter(question.category for question in SHIPPED) == dict.fromkeys(KINDS, PER_KIND)
    assert [question.category for question in SHIPPED[:14]] == [*KINDS, *KINDS]
    assert {question.images()[0].size for question in SHIPPED[::35]} == {(112, 112)}


@drawn
def test_the_file_is_what_the_builder_draws():
    for shipped, row in zip(SHIPPED, question_rows(2, SEED), strict=False):
        (picture,) = shipped.pictures
        made = own_question(row, Path())
        assert vars(made) | {"pictures": ()} == vars(shipped) | {"pictures": ()}
        decoded = [np.asarray(q.images()[0], dtype=float) for q in (made, shipped)]
        assert (
            picture.content and np.abs(decoded[0] - decoded[1]).mean() < 1
        )  # codecs differ a little


@drawn
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_judged_as_the_probe_judges(kind: str):
    shipped = [question for question in SHIPPED if question.category == kind]
    samples = held_out(kind, 8, SEED)
    wrong = ["nothing of the kind", "", *(sample.answer for sample in samples)]
    for question, sample in zip(shipped, samples, strict=False):
        assert is_right(question, sample.answer) and correct(sample, sample.answer)
        for answer in wrong:
            assert is_right(question, answer) == correct(sample, answer)
        assert not any(is_right(question, answer) for answer in wrong[:2])


def test_a_longer_name_hides_the_shorter_one_inside_it():
    vocabulary = ["bee|bees", "dog|dogs", "hot dog|hot dogs", "honey pot|honey pots", "car|cars"]
    text = "A photo of two honey pots, a bee and a hot dog."
    assert names_in(text, vocabulary) == {"bee", "hot dog", "honey pot"}
