"""Whether an answer in free words is right. Rules, no judge model: the same every time.

yes_no   the first yes or no that it says
exact    the right answer, word for word; blanks round it do not count
names    it names exactly the right things of a vocabulary, whatever else it says
point    the first `(x, y)` in it lies near enough
choice   the first of these that it gives; a letter that is no option's is passed over:

1. `\\boxed{B}`
2. a letter that is stated: `answer is B`, `option: B`; in lower case as the last word only
3. a letter that is the whole answer, or opens it before `.`, `:`, `)` or the like: `b`, `B. cup`
4. one letter in brackets, wherever it stands: `it is (B)`
5. the text of exactly one option, as whole words
6. an upper-case letter that opens the answer, but for A: `B because it is near`

So the article is not taken for the first option: `A dog on the right` is the option with that
text, or none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from emt_core.evaluation.questions.question import Question

_YES_NO = re.compile(r"\b(yes|no)\b", re.I)
_BOXED = re.compile(r"\\boxed\{\s*\(?([A-Ha-h])\)?\s*\}")
_STATED = re.compile(
    r"""\b(?i:answer|option|choice)\b\s*(?i:is\b)?[\s:*("'\[\-]*([A-H]\b|[a-h](?=\W*$))"""
)
_OPENING = re.compile(r"^\W*([A-Ha-h])(?=\s*[.:),;\]*\n]|\s*$)")
_BRACKETED = re.compile(r"\(([A-Ha-h])\)")
_POINT = re.compile(r"\(\s*([01]?\.\d+|[01])\s*,\s*([01]?\.\d+|[01])\s*\)")
_LAST_RESORT = re.compile(r"^\W*([B-H])\b")


def is_right(question: Question, answer: str) -> bool:
    """Judge the answer by the question's rule."""
    match question.judge:
        case "yes_no":
            return yes_or_no(answer) == question.answer
        case "choice":
            return chosen_letter(answer, question.options) == question.answer
        case "names":
            return names_in(answer, question.vocabulary) == question.names
        case "point":
            match = _POINT.search(answer)
            if match is None:
                return False
            said = (float(match[1]), float(match[2]))
            return math.dist(said, question.point) <= question.tolerance
        case "exact":
            return answer.strip() == question.answer


def names_in(text: str, vocabulary: Iterable[str]) -> set[str]:
    """The names of `vocabulary` that occur in `text` as whole words, in any of their forms.

    vocabulary: `goose|geese`, the name first. Longer names are looked for first, and what they
    cover is taken out, so `hot dog` does not name a dog as well.
    """
    rest = f" {text.lower()} "
    named: set[str] = set()
    entries = [entry.split("|") for entry in vocabulary]
    for forms in sorted(entries, key=lambda forms: len(forms[0]), reverse=True):
        for form in sorted(forms, key=len, reverse=True):
            rest, hits = re.subn(rf"(?<![a-z-]){re.escape(form)}(?![a-z-])", "#", rest)
            if hits:
                named.add(forms[0])
    return named


def yes_or_no(answer: str) -> str | None:
    """The first yes or no, None where there is neither (POPE's own script takes that for a yes)."""
    match = _YES_NO.search(answer)
    return match[1].lower() if match else None


def chosen_letter(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter an answer chooses, by the rules above; None where it chooses none.

    options: letter -> text; empty where the question's text has them in it: then every letter is
    an option.
    """
    answer = answer.strip()
    texts = {letter: text.strip().lower() for letter, text in options.items() if text.strip()}
    for pattern in (_BOXED, _STATED, _OPENING):
        match = pattern.search(answer)
        if match is None or not _is_option(match[1], options):
            continue
        if not _begins_text(answer[match.start(1) :], texts):
            return match[1].upper()
    letters = _BRACKETED.findall(answer)
    bracketed = {letter.upper() for letter in letters if _is_option(letter, options)}
    if len(bracketed) == 1:
        return bracketed.pop()
    named = [letter for letter, text in texts.items() if _says(answer.lower(), text)]
    # An option whose text lies within another's does not count beside it: `left` in `left side`.
    within = {a for a in named for b in named if texts[a] != texts[b] and texts[a] in texts[b]}
    named = [letter for letter in named if letter not in within]
    if len(named) == 1:
        return named[0]
    match = _LAST_RESORT.search(answer)
    return match[1] if match and not named and _is_option(match[1], options) else None


def _is_option(letter: str, options: Mapping[str, str]) -> bool:
    return not options or letter.upper() in options


def _begins_text(rest: str, texts: Mapping[str, str]) -> bool:
    """Whether what looks like a letter begins an option's text (`answer: A dog on the right`)."""
    return any(len(text) > 1 and rest.lower().startswith(text) for text in texts.values())


def _says(answer: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", answer) is not None
