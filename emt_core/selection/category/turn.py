"""One question and its answer, made comparable: case, Unicode, stock phrases, choices, typos."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from emt_core.selection.category.cue import KEY_LETTERS

# Questions stand at the head or the tail of a long prompt; answers show their form at once. The
# bound also keeps every pattern's work bounded.
HEAD_CHARS = 1200
TAIL_CHARS = 600
ANSWER_CHARS = 600

_IMAGE_TAG = re.compile(
    r"<(?:image|video|img)(?:[ _-]?\d{1,3})?>|<\|image(?:_pad|_\d)?\|>|<image_placeholder>"
)
_SPACE = re.compile(r"[ \t\r\f\v]+")
_QUOTES = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "`": "'", "–": "-", "—": "-", "\u00a0": " "}
)

# What sets append to thousands of questions says how to answer, not what is asked. Each is tried
# only where its word stands: most questions have none of them.
_STOCK: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (word, re.compile(pattern))
    for word, pattern in (
        (
            "answer",
            r"(?:please )?answer (?:the question |directly |briefly )?(?:using|with|in) (?:only )?(?:a |one |just )?"
            r"(?:single word|few words|word|short phrase|one word)(?: or (?:short )?phrase)?\.?",
        ),
        (
            "letter",
            "(?:please )?(?:answer|respond|reply) (?:with|by)(?: only| giving)? the (?:correct )?(?:option'?s?"
            " )?letters?"
            r"(?: (?:from|of) the (?:given|correct) (?:choices?|options?|answers?))?(?: directly)?\.?",
        ),
        (" or ", r"(?:please )?(?:answer|respond|reply) (?:with )?(?:yes or no|true or false)\.?"),
        ("number", r"(?:please )?answer (?:with|in) an? (?:decimal number|integer|number)\.?"),
        ("sentence", r"(?:please )?answer (?:with|in) an? (?:short|full) sentence\.?"),
        (
            "insufficient",
            r"when the provided information is insufficient,? respond with 'unanswerable'\.?",
        ),
        ("between 0 and 1", r"(?:the )?coordinates should be between 0 and 1[^\n]{0,120}"),
        ("from ext", r"in the image from ext\d,? ?"),
        ("brief", r"(?:give|show) a brief (?:answer|reply)\.?|(?:please )?be brief\.?"),
        ("thank", r"thanks?(?: you)?[.!]*$"),
    )
)
_GREETING = re.compile(
    r"^(?:hey|hi|hello|please|pls|so|ok(?:ay)?|well|now|um+|quick question|question)\b[ ,:!.-]*"
)
_TUPLE_DEMAND = re.compile(
    r"(?:your )?answers? should be (?:formatted|given|written) as a list of tuples[^\n]{0,400}"
)
_OCR_TOKENS = re.compile(r"(?:reference )?ocr tokens?\s?:[^\n]{0,600}")
_FIRST_CHOICE = re.compile(r"(?:^|\n|\s)\(?a\s?[.):]\s?(?=\S)")
_CHOICE = re.compile(r"(?:^|\n|\s)\(?([a-h])\s?[.):]\s?(?=\S)")
_CHOICE_INTRO = re.compile(
    r"(?:choices|options|choose (?:between|from|one of)[^:\n]{0,40})\s?:?\s*$"
)
_LETTER_ANSWER = re.compile(r"^\W?([a-h])(?:\W|$)")
_WORDS = re.compile(r"[^\W_]+(?:'[^\W_]+)?")

# Words that decide, recognised with one letter missing, doubled, misplaced or two swapped.
_DECIDING = (
    "between behind beneath underneath beside above below closest closer farthest furthest nearest distance"
    " direction facing "
    "describe description caption picture photo image written coordinates bounding gripper color author brand"
    " highest lowest tallest camera"
).split()
_SHORTHAND: dict[str, str] = {
    bad: good
    for bad, _, good in (
        pair.partition("=")
        for pair in (
            "whats=what is|what's=what is|wheres=where is|where's=where is|whos=who is|who's=who is|which's=which is"
            "|hows=how is|how's=how is|wat=what|wht=what"
            "|waht=what|wich=which|teh=the|hte=the|u=you|r=are|pic=picture|pics=pictures|img=image|infront=in front"
            "|pls=please|plz=please|discribe=describe"
            "|colour=color|colours=colors|coloured=colored|colr=color|metres=meters|metre=meter|centre=center|grey=gray"
        ).split("|")
    )
}


def _misspellings(word: str) -> set[str]:
    dropped = {word[:i] + word[i + 1 :] for i in range(1, len(word))}
    doubled = {
        bad[: i + 1] + bad[i] + bad[i + 1 :] for bad in (word, *dropped) for i in range(len(bad))
    }
    swapped = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(1, len(word) - 1)}
    return dropped | doubled | swapped


# English words among the misspellings of others, or plain other words.
_REAL_WORDS = frozenset(
    "closet closets belong cloner close bran bland bellow coaster imagine".split()
)
_CORRECT = {
    bad: word
    for word in _DECIDING
    for bad in _misspellings(word)
    if len(bad) > 4 and bad not in _REAL_WORDS
} | _SHORTHAND
for _word in _DECIDING:
    _CORRECT.pop(_word, None)
_REWRITTEN = frozenset(_CORRECT)


def plain(text: str) -> str:
    """NFKC, lower case, straight quotes, single spaces; newlines stay."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    text = text.lower().strip()
    return _SPACE.sub(" ", text) if "  " in text or "\t" in text or "\r" in text else text


@dataclass(frozen=True, slots=True)
class Exchange:
    """One user turn with its answer.

    stem: what is asked, without stock phrases and choices. words: its word set; keys: what phrases
    are filed under. choices: the options in order. answer: the answer; where it is a letter, the
    option it stands for. wants_tuples: the stock demand for a list of tuples was there. ocr: OCR
    tokens were given along.
    """

    stem: str
    words: frozenset[str]
    keys: frozenset[str]
    choices: tuple[str, ...]
    answer: str
    wants_tuples: bool
    ocr: bool


def exchange(question: str, answer: str) -> Exchange:
    """Prepare one user turn and the assistant turn that follows ("" where there is none)."""
    if len(question) > HEAD_CHARS + TAIL_CHARS:
        question = question[:HEAD_CHARS] + " " + question[-TAIL_CHARS:]
    text = plain(question)
    if "<" in text:
        text = _IMAGE_TAG.sub(" ", text).strip()
    wants_tuples = ocr = False
    if "tuple" in text:
        text, count = _TUPLE_DEMAND.subn(" ", text)
        wants_tuples = count > 0
    if "ocr token" in text:
        text, count = _OCR_TOKENS.subn(" ", text)
        ocr = count > 0
    for word, pattern in _STOCK:
        if word in text:
            text = pattern.sub(" ", text)
    text, choices = _split_choices(_GREETING.sub("", text.strip()))
    stem = " ".join(text.split())
    words = _WORDS.findall(stem)
    if not _REWRITTEN.isdisjoint(words):
        stem = _WORDS.sub(lambda m: _CORRECT.get(m[0], m[0]), stem)
        words = _WORDS.findall(stem)
    said = plain(answer[:ANSWER_CHARS])
    if choices and (letter := _LETTER_ANSWER.match(said)) and ord(letter[1]) - 97 < len(choices):
        said = choices[ord(letter[1]) - 97]
    if "'" in stem:
        words += [word.split("'")[0] for word in words if "'" in word]
    return Exchange(
        stem,
        frozenset(words),
        frozenset([word[:KEY_LETTERS] for word in words]),
        choices,
        said,
        wants_tuples,
        ocr,
    )


def _split_choices(text: str) -> tuple[str, tuple[str, ...]]:
    """Cut `A. ... B. ...` off; a lone `a.` is no list of choices."""
    start = _FIRST_CHOICE.search(text) if "a." in text or "a)" in text or "a:" in text else None
    if start is None:
        return text, ()
    marks = []
    for mark in _CHOICE.finditer(text, start.start()):
        if ord(mark[1]) - 97 == len(marks):
            marks.append(mark)
    if len(marks) < 2:
        return text, ()
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    choices = tuple(text[m.end() : end].strip(" .\n") for m, end in zip(marks, ends, strict=True))
    return _CHOICE_INTRO.sub("", text[: start.start()].rstrip()), choices
