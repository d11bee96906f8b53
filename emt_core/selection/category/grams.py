"""Keys and n-grams of an exchange: what the classifier weighs, and what a page names as evidence.

A key is a word, a pair or a triple of the question (`q:left of`), a word or a pair at the head of
the answer (`a:yes`), a word of the choices (`o:left`), or a form (`#length 3`). A word of the
question also stands for its runs of letters, so that spelling and endings matter little.
"""

from __future__ import annotations

import itertools

from emt_core.selection.category.turn import Exchange

ANSWER_WORDS = 8
CHOICE_WORDS = 40
LETTERS = (3, 4, 5)
"""Lengths of the runs of letters."""
SHORT = 4
"""English words below this length have no runs of letters."""
CJK_LETTERS = (1, 2, 3)
"""The same for words of other scripts: some write no spaces."""


def keys(exchange: Exchange) -> list[str]:
    question = exchange.question
    found = [f"q:{word}" for word in question]
    found += [f"q:{a} {b}" for a, b in itertools.pairwise(question)]
    triples = zip(question, question[1:], question[2:], strict=False)
    found += [f"q:{a} {b} {c}" for a, b, c in triples]
    head = ("^", *exchange.answer[:ANSWER_WORDS])
    found += [f"a:{word}" for word in head]
    found += [f"a:{a} {b}" for a, b in itertools.pairwise(head)]
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


def _runs(word: str, lengths: tuple[int, ...]) -> list[str]:
    return [word[i : i + n] for n in lengths for i in range(len(word) - n + 1)]


def shown(key: str) -> str:
    """A key in words for a page: `left of`, `answer: yes`, `choices: left`."""
    kind, text = key[:2], key[2:].replace("^ ", "").replace(" $", "")
    if kind == "a:":
        return f"answer: {text}" if text != "^" else "the answer"
    return f"choices: {text}" if kind == "o:" else key[1:] if key[0] == "#" else text
