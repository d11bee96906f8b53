"""Whether an answer in free words is right. Rules, no judge model: the same every time."""

from __future__ import annotations

import re
from collections.abc import Mapping

from emt_core.questions.question import Question

_YES_NO = re.compile(r"\b(yes|no)\b", re.I)
_BOXED = re.compile(r"\\boxed\{\s*\(?([A-Z])\)?\s*\}")
_STATED = re.compile(r"\b(?:answer|option|choice)\b\s*(?:is)?\s*[:\-]?\s*\(?([A-Z])\b\)?", re.I)
_FIRST = re.compile(r"^\W*\(?([A-Z])\)?(?=\W|$)")


def is_right(question: Question, answer: str) -> bool:
    if question.judge == "yes_no":
        return yes_or_no(answer) == question.answer
    if question.judge == "choice":
        return chosen_letter(answer, question.options) == question.answer
    from emt_core.demo.probe import correct

    return correct(question.drawn, answer)  # type: ignore[arg-type]


def yes_or_no(answer: str) -> str | None:
    """The first yes or no; an answer without either is wrong (POPE's own script takes it for a yes)."""
    found = _YES_NO.search(answer)
    return found[1].lower() if found else None


def chosen_letter(answer: str, options: Mapping[str, str]) -> str | None:
    r"""The letter an answer chooses: `\boxed{B}`, `answer: B`, a leading `B`, `(B)` or `B.`, or one option's text."""
    for pattern in (_BOXED, _STATED, _FIRST):
        found = pattern.search(answer.strip())
        if found and (not options or found[1].upper() in options):
            return found[1].upper()
    named = [letter for letter, text in options.items() if text and text.lower() in answer.lower()]
    return named[0] if len(named) == 1 else None
