"""Cues: phrases that give a demand away, written so that a reader can check them and a question
meets only a few.

A phrase is a regular expression over whole words, with three short forms:

    "provide|give .. bounding box"    ` .. ` is a gap of at most 60 characters inside one sentence
    "^is it safe"                     `^` the start of a clause (or after , ; : . ! ?)
    "what do you see$"                `$` the end of the question

Phrases are looked up by the words they need: each is filed under the first four letters of the
words one of its parts can start with, and a question is tried only on the phrases filed under its
own words. That is what makes tens of thousands of conversations a second possible; a test holds
that it never changes a verdict. No phrase has a gap without bound or a repetition inside a
repetition, so matching stays linear in the text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from re import _constants as sre  # pyright: ignore[reportAttributeAccessIssue]
from re import _parser as sre_parser  # pyright: ignore[reportAttributeAccessIssue]
from typing import Any, Protocol

KEY_LETTERS = 4
GAP = r"[^?!\n]{0,60}"
CLAUSE = (
    "(?:^|[.,;:!?] ?)(?:(?:and|so|then|now|but|please|also|just) "
    "|(?:can|could|would) you (?:please )?(?:tell me )?"
    "|(?:tell|show) me (?:if |whether )?){0,2}"
)
END = r"[?.!: ]*$"
# Words in so many questions that filing a phrase under them would save nothing.
COMMON = frozenset(
    "what whic who wher when how many much is are was the a an of in on at to for from with by or "
    "and do does did can coul will woul shou it this that ther you your me his her be has have not "
    "one".split()
)


class Words(Protocol):
    """What a question offers to be matched: its text and the keys of its words."""

    @property
    def stem(self) -> str: ...

    @property
    def keys(self) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """name: recorded in the artifact.

    asks: any of these phrases decides, unless one of `unless` stands there too.
    """

    name: str
    category: str
    asks: tuple[str, ...]
    unless: tuple[str, ...] = ()


def any_of(phrases: Iterable[str]) -> re.Pattern[str]:
    """One pattern for phrases that need no look-up."""
    return re.compile("|".join(_pattern(phrase) for phrase in phrases))


def filed(*phrases: str) -> Rules:
    """The same, looked up by words: for phrases asked of every question."""
    return Rules(Rule("", "", phrases))


class Rules:
    """An ordered list of rules; `first` gives the first whose phrase stands in the question."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules
        self._tests: list[tuple[Rule, re.Pattern[str], re.Pattern[str] | None]] = []
        self._filed: dict[str, list[int]] = defaultdict(list)
        for rule in rules:
            veto = any_of(rule.unless) if rule.unless else None
            for phrase in rule.asks:
                for key in _keys_of_phrase(phrase):
                    self._filed[key].append(len(self._tests))
                self._tests.append((rule, re.compile(_pattern(phrase)), veto))
        self._keys = frozenset(self._filed)

    def first(self, question: Words) -> Rule | None:
        keys = question.keys & self._keys
        if not keys:
            return None
        return self._try(
            question.stem, sorted({number for key in keys for number in self._filed[key]})
        )

    def first_unfiled(self, question: Words) -> Rule | None:
        """The same by trying every phrase: what `first` is tested against."""
        return self._try(question.stem, range(len(self._tests)))

    def _try(self, stem: str, numbers: Iterable[int]) -> Rule | None:
        for number in numbers:
            rule, pattern, veto = self._tests[number]
            if pattern.search(stem) and not (veto and veto.search(stem)):
                return rule
        return None


def _parts(phrase: str) -> list[str]:
    return phrase.removeprefix("^").removesuffix("$").split(" .. ")


def _pattern(phrase: str) -> str:
    joined = rf"\b{GAP}\b".join(f"(?:{part})" for part in _parts(phrase))
    start = CLAUSE if phrase.startswith("^") else r"\b"
    return start + joined + (END if phrase.endswith("$") else r"\b")


def _keys_of_phrase(phrase: str) -> frozenset[str]:
    """Keys of the words that the phrase needs, taken from the place where they are rarest."""
    found = [keys for part in _parts(phrase) if (keys := _needed(sre_parser.parse(part)))]
    if not found:
        raise ValueError(f"{phrase!r} needs no word that can be listed")
    return min(found, key=_rarity)


def _rarity(keys: frozenset[str]) -> tuple[int, int]:
    return len(keys & COMMON), len(keys)


def _needed(nodes: Any) -> frozenset[str]:
    """Keys, one of which is in any text that matches these nodes; empty: they cannot be listed."""
    found = []
    for word in _words_of(nodes):
        if len(word) == 1 and word[0][0] in (sre.BRANCH, sre.SUBPATTERN):
            kind, value = word[0]
            branches = [
                _needed(branch) for branch in (value[1] if kind is sre.BRANCH else [value[-1]])
            ]
            keys = frozenset().union(*branches) if all(branches) else frozenset()
        else:
            keys = _first_words(word)
        if keys:
            found.append(keys)
    return min(found, key=_rarity, default=frozenset())


def _words_of(nodes: Any) -> Iterator[list[Any]]:
    """Cut nodes where a word begins in any case.

    That is after a space, and after an optional group that ends in one.
    """
    word: list[Any] = []
    for node in nodes:
        if node[0] is sre.LITERAL and chr(node[1]) == " ":
            yield word
            word = []
        elif (
            not word
            and node[0] in (sre.MAX_REPEAT, sre.MIN_REPEAT)
            and node[1][0] == 0
            and _ends_in_space(node[1][2])
        ):
            continue
        elif node[0] not in (sre.AT, sre.ASSERT, sre.ASSERT_NOT):
            word.append(node)
    yield word


def _ends_in_space(nodes: Any) -> bool:
    kind, value = nodes[-1]
    if kind is sre.SUBPATTERN:
        return _ends_in_space(value[-1])
    if kind is sre.BRANCH:
        return all(len(branch) and _ends_in_space(branch) for branch in value[1])
    return kind is sre.LITERAL and chr(value) == " "


def _first_words(nodes: Any) -> frozenset[str]:
    """Keys of every word that a match of the nodes can start with; empty: they cannot be listed."""
    try:
        keys = frozenset(text for text, _ in _extend({("", False)}, nodes))
    except _AnyWordError:
        return frozenset()
    return frozenset() if "" in keys else keys


class _AnyWordError(Exception):
    """A match can start with words that cannot be listed."""


def _extend(started: set[tuple[str, bool]], nodes: Any) -> set[tuple[str, bool]]:
    """Grow (letters so far, word is over) by the nodes of a parsed pattern."""
    for kind, value in nodes:
        opened = {item for item in started if not item[1]}
        if not opened:
            return started
        started = (started - opened) | _grow(opened, kind, value)
    return started


def _grow(opened: set[tuple[str, bool]], kind: Any, value: Any) -> set[tuple[str, bool]]:
    if kind is sre.LITERAL:
        return {_add(text, chr(value)) for text, _ in opened}
    if kind is sre.BRANCH:
        return set().union(*(_extend(set(opened), branch) for branch in value[1]))
    if kind is sre.SUBPATTERN:
        return _extend(set(opened), value[-1])
    if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        least, most, nodes = value
        once = _extend(set(opened), nodes)
        if most > 1 and any(not over for _, over in once):
            raise _AnyWordError
        return once | opened if least == 0 else once
    if kind is sre.IN:
        return {
            _add(text, char) for text, _ in opened for node in value for char in _members(*node)
        }
    if kind in (sre.AT, sre.ASSERT, sre.ASSERT_NOT):
        return opened
    raise _AnyWordError


def _members(kind: Any, value: Any) -> str:
    """The characters of one entry of a class (literal, short range, digits); empty: not listed."""
    if kind is sre.LITERAL:
        return chr(value)
    if kind is sre.RANGE and value[1] - value[0] < 10:
        return "".join(map(chr, range(value[0], value[1] + 1)))
    if kind is sre.CATEGORY and value is sre.CATEGORY_DIGIT:
        return "0123456789"
    raise _AnyWordError


def _add(text: str, char: str) -> tuple[str, bool]:
    if not char.isalnum():
        return text, bool(text)
    return text + char, len(text) + 1 == KEY_LETTERS
