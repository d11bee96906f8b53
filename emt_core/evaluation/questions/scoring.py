"""Whether an answer in free words is right. Rules, no judge model: the same every time.

A multiple-choice answer is the first of these that it gives; a letter that is none of the options' is passed over:
1. `\\boxed{B}`
2. a letter that is stated: `answer is B`, `option: B`; in lower case only as the last word (`answer: b`)
3. a letter, in any case, that is the whole answer, or opens it with `.`, `:`, `)` or the like behind: `b`, `B. cup`
4. one letter in brackets, wherever it stands: `it is (B)`
5. the text of exactly one option, as whole words
6. an upper-case letter that opens the answer, but for A: `B because it is near`
So the article is not taken for the first option: `A dog on the right` is the option with that text, or none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from emt_core.evaluation.questions.question import Question

_YES_NO = re.compile(r"\b(yes|no)\b", re.I)
_BOXED = re.compile(r"\\boxed\{\s*\(?([A-Ha-h])\)?\s*\}")
_STATED = re.compile(
    r"""\b(?i:answer|option|choice)\b\s*(?i:is\b)?[\s:*("'\[\-]*([A-H]\b|[a-h](?=\W*$))"""
)
_OPENING = re.compile(r"^\W*([A-Ha-h])(?=\s*[.:),;\]*\n]|\s*$)")
_BRACKETED = re.compile(r"\(([A-Ha-h])\)")
_LAST_RESORT = re.compile(r"^\W*([B-H])\b")


def is_right(question: Question, answer: str) -> bool:
    if question.judge == "yes_no":
        return yes_or_no(answer) == question.answer
    if question.judge == "choice":
        return chosen_letter(answer, question.options) == question.answer
    from demo.probe import correct

    return correct(question.drawn, answer)  # type: ignore[arg-type]


def yes_or_no(answer: str) -> str | None:
    """The first yes or no; an answer without either is wrong (POPE's own script takes it for a yes)."""
    found = _YES_NO.search(answer)
    return found[1].lower() if found else None


def chosen_letter(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter an answer chooses, by the rules above; None where it chooses none.

    options: letter -> text; empty where the question's text has them in it, and then every letter is one.
    """
    answer = answer.strip()
    texts = {letter: text.strip().lower() for letter, text in options.items() if text.strip()}
    for pattern in (_BOXED, _STATED, _OPENING):
        found = pattern.search(answer)
        if (
            found
            and _is_option(found[1], options)
            and not _begins_text(answer[found.start(1) :], texts)
        ):
            return found[1].upper()
    bracketed = {
        letter.upper() for letter in _BRACKETED.findall(answer) if _is_option(letter, options)
    }
    if len(bracketed) == 1:
        return bracketed.pop()
    named = [letter for letter, text in texts.items() if _says(answer.lower(), text)]
    within = {
        a for a in named for b in named if texts[a] != texts[b] and texts[a] in texts[b]
    }  # `left` in `left side`
    named = [letter for letter in named if letter not in within]
    if len(named) == 1:
        return named[0]
    found = _LAST_RESORT.search(answer)
    return found[1] if found and not named and _is_option(found[1], options) else None


def _is_option(letter: str, options: Mapping[str, str]) -> bool:
    return not options or letter.upper() in options


def _begins_text(rest: str, texts: Mapping[str, str]) -> bool:
    """Whether what looks like a letter is the first word of an option's text (`answer: A dog on the right`)."""
    return any(len(text) > 1 and rest.lower().startswith(text) for text in texts.values())


def _says(answer: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", answer) is not None
