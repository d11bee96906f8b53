"""One question and its answer, made comparable: case, Unicode, stock phrases, choices, numbers."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

HEAD_CHARS = 1200
"""Questions stand at the head or the tail of a long prompt; what is between is not read."""
TAIL_CHARS = 600
ANSWER_CHARS = 600

_IMAGE_TAG = re.compile(
    r"<(?:image|video|img)(?:[ _-]?\d{1,3})?>|<\|image(?:_pad|_\d)?\|>|<image_placeholder>"
)
_QUOTES = str.maketrans("‘’“”`–—\u00a0", "''\"\"'-- ")

# What public sets append to thousands of questions says how to answer, not what is asked.
_STOCK = re.compile(
    r"(?:please )?answer (?:the question |directly |briefly )?(?:using|with|in) (?:only )?"
    r"(?:a |one |just )?(?:single word|few words|word|short phrase|one word)"
    r"(?: or (?:short )?phrase)?\.?"
    r"|(?:please )?(?:answer|respond|reply) (?:with|by)(?: only| giving)? the (?:correct )?"
    r"(?:option'?s? )?letters?(?: from the given choices?)?(?: directly)?\.?"
    r"|(?:please )?(?:answer|respond|reply) (?:with )?(?:yes or no|true or false)\.?"
    r"|(?:please )?answer (?:with|in) an? (?:decimal number|integer|number|short sentence)\.?"
    r"|when the provided information is insufficient,? respond with 'unanswerable'\.?"
    r"|(?:the )?coordinates should be between 0 and 1[^\n]{0,120}"
)
_STOCK_WORD = re.compile("answer|respond|reply|coordinates")
# Two stock phrases that do say what is asked become one word each.
_TUPLES = re.compile(r"(?:your )?answer should be formatted as a list of tuples[^\n]{0,400}")
_OCR = re.compile(r"(?:reference )?ocr tokens?\s?:[^\n]{0,600}")
_FIRST_CHOICE = re.compile(r"(?:^|\n|\s)\(?a\s?[.):]\s?(?=\S)")
_CHOICE = re.compile(r"(?:^|\n|\s)\(?([a-h])\s?[.):]\s?(?=\S)")
_LETTER_ANSWER = re.compile(r"^\W?([a-h])(?:\W|$)")

_IS = re.compile(r"\b(what|where|who|which|how)'?s\b")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[?!]|<\w+>")
_PERSON = re.compile(r"\[person\d\]")
_BRACKETED = re.compile(
    r"[\[({<]{1,3}\s?-?\d[-\d., ()\[\]{}<>]*[\])}>]|<points?\b[^>]{0,400}>", re.ASCII
)
_PLACES = tuple(f" <place> <{kind}> " for kind in ("none", "one", "point", "triple", "box", "list"))
"""What brackets stand for, by the numbers in them; the last: five and more."""
_NUMBER = re.compile(r"[$€£]?\d[\d.,:]*%?")
_YEAR = re.compile(r"(?:1[89]|20)\d\d")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A user turn with its answer, as words (lower case).

    question: without stock phrases and choices; starts with `^`, ends with `$`. choices: the words
    of all options. answer: where it is a letter, the option that it stands for.
    """

    question: tuple[str, ...]
    choices: tuple[str, ...]
    answer: tuple[str, ...]


def exchange(question: str, answer: str) -> Exchange:
    """Prepare one user turn and the assistant turn that follows ("" where there is none)."""
    if len(question) > HEAD_CHARS + TAIL_CHARS:
        question = question[:HEAD_CHARS] + " " + question[-TAIL_CHARS:]
    text = _IS.sub(r"\1 is", plain(question))
    if "<" in text:
        text = _IMAGE_TAG.sub(" ", text).strip()
    if "tuple" in text:
        text = _TUPLES.sub(" <tuples> ", text)
    if "ocr token" in text:
        text = _OCR.sub(" <ocr> ", text)
    if _STOCK_WORD.search(text):
        text = _STOCK.sub(" ", text)
    text, choices = _split_choices(text)
    said = plain(answer[:ANSWER_CHARS])
    if choices and (letter := _LETTER_ANSWER.match(said)) and ord(letter[1]) - 97 < len(choices):
        said = choices[ord(letter[1]) - 97]
    return Exchange(
        ("^", *words(text), "$"),
        tuple(word for choice in choices for word in words(choice)),
        tuple(words(said)),
    )


def plain(text: str) -> str:
    """NFKC, lower case, straight quotes."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    return text.lower().strip()


def words(text: str) -> list[str]:
    """Words and `?`; numbers and places by their form: `<year>`, `<box>`, ..."""
    if any(map(str.isdigit, text)):
        text = _PERSON.sub("person", text)
        text = _BRACKETED.sub(_place, text)
        text = _NUMBER.sub(_number, text)
    return _WORD.findall(text)


def _place(match: re.Match[str]) -> str:
    return _PLACES[min(len(_NUMBER.findall(match[0])), len(_PLACES) - 1)]


def _number(match: re.Match[str]) -> str:
    text = match[0].rstrip(".,:")
    if text[0] in "$€£":
        return " <money> "
    if text[-1] == "%":
        return " <percent> "
    if ":" in text:
        return " <time> "
    if _YEAR.fullmatch(text):
        return " <year> "
    return " <decimal> " if "." in text else " <number> "


def _split_choices(text: str) -> tuple[str, tuple[str, ...]]:
    """Cut `A. ... B. ...` off; a lone `a.` is no list of choices."""
    start = _FIRST_CHOICE.search(text)
    if start is None:
        return text, ()
    marks: list[re.Match[str]] = []
    for mark in _CHOICE.finditer(text, start.start()):
        if ord(mark[1]) - 97 == len(marks):
            marks.append(mark)
    if len(marks) < 2:
        return text, ()
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    choices = tuple(text[m.end() : end].strip(" .\n") for m, end in zip(marks, ends, strict=True))
    return text[: start.start()].rstrip(), choices
