"""Keys and n-grams of an exchange: what the classifier weighs, and what a page names as evidence.

A key is a word or a pair of the question (`q:left of`), a word or a pair at the head of the answer
(`a:yes`), a word of the choices (`o:left`), or a form (`#choices`). A word of the question also
stands for its runs of letters, so that spelling and endings matter little.

A pattern (`p:`) is three or five words of the question with `*` for nouns and verbs, `*ing` for
words in -ing and `<adjective>` (forms.txt has the adjectives, and the words that stay):
`p:the * <adjective> ? $` asks for an attribute, `p:behind the * ? $` for a relation, whatever the
nouns. `x:what color => <adjective>` joins the first words of the question and the answer's form.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable
from functools import lru_cache
from pathlib import Path

from emt_core.selection.category.turn import Exchange

ANSWER_WORDS = 8
CHOICE_WORDS = 40
NEW_WORD = "a:<new word>"
"""A word of an answer that training texts do not hold: most often a name that was read."""
LETTERS = (3, 4, 5)
"""Lengths of the runs of letters."""
SHORT = 4
"""English words below this length have no runs of letters."""
CJK_LETTERS = (1, 2, 3)
"""The same for words of other scripts: some write no spaces."""


_WORD_FORMS = {
    word: word if line.startswith("kept") else "<adjective>"
    for line in Path(__file__).with_name("forms.txt").read_text("utf-8").splitlines()
    for word in line.partition(": ")[2].split("|")
}


@lru_cache(maxsize=100_000)
def _form(word: str) -> str:
    if word[0] == "<":
        return word
    return _WORD_FORMS.get(word) or ("*ing" if word.endswith("ing") and len(word) > 4 else "*")


def _answer_form(answer: tuple[str, ...]) -> str:
    if (said := "".join(answer[:1])) in ("yes", "no", "true", "false"):
        return f"{said} long" if len(answer) > 3 else said
    return " ".join(map(_form, answer[:2])) if len(answer) < 4 else "long"


@lru_cache(maxsize=10_000)
def _patterns(forms: tuple[str, ...]) -> list[str]:
    starts = [(i, n) for n in (3, 5) for i in range(max(1, len(forms) - n + 1))]
    return ["p:" + " ".join(forms[i : i + n]) for i, n in starts]


def keys(exchange: Exchange) -> list[str]:
    question = exchange.question
    found = [f"q:{word}" for word in question]
    found += [f"q:{a} {b}" for a, b in itertools.pairwise(question)]
    forms = tuple(map(_form, question))
    found += _patterns(forms)
    head = ("^", *exchange.answer[:ANSWER_WORDS])
    found += [f"a:{word}" for word in head]
    found += [f"a:{a} {b}" for a, b in itertools.pairwise(head)]
    asked_for = _answer_form(exchange.answer)
    found += [f"x:{' '.join(forms[1:n])} => {asked_for}" for n in (2, 3)]
    found.append(f"#answer of 2^{min(len(exchange.answer).bit_length(), 6)} words")
    if exchange.choices:
        found.append("#choices")
        found += [f"o:{word}" for word in dict.fromkeys(exchange.choices[:CHOICE_WORDS])]
    if len(question) == 2:
        found.append("#no question")
    return found


def grams(key: str) -> list[str]:
    """The n-grams that a key stands for: itself, and the runs of letters of a question's word."""
    if not key.startswith("q:") or " " in key:
        return [key]
    word = key[2:]
    if not word.isascii():
        return [key, *(f"c:{run}" for run in _runs(word, CJK_LETTERS + LETTERS))]
    if len(word) < SHORT or not word.isalpha():
        return [key]
    return [key, *(f"c:{run}" for run in _runs(f" {word} ", LETTERS))]


def known_grams(named: Iterable[str], vocabulary: Container[str]) -> list[str]:
    """Those in the vocabulary; a word of an answer that no text holds becomes NEW_WORD."""
    found = []
    for gram in named:
        is_new = gram not in vocabulary and gram.startswith("a:") and " " not in gram
        found.append(NEW_WORD if is_new and f"q:{gram[2:]}" not in vocabulary else gram)
    return [gram for gram in found if gram in vocabulary]


def _runs(word: str, lengths: tuple[int, ...]) -> list[str]:
    return [word[i : i + n] for n in lengths for i in range(len(word) - n + 1)]


def shown(key: str) -> str:
    """A key in words for a page: `left of`, `answer: yes`, `choices: left`, `behind the … ?`."""
    kind, text = key[:2], key[2:].replace("^ ", "").replace(" $", "")
    if kind in ("p:", "x:"):
        return text.replace("^", "").replace("$", "").replace("*", "…").strip()
    if kind == "a:":
        return f"answer: {text}" if text != "^" else "the answer"
    return f"choices: {text}" if kind == "o:" else key[1:] if key[0] == "#" else text
