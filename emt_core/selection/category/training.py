"""Training texts and the fit of the classifier.

texts/labeled.tsv   category, question, answer: rows labelled by hand
texts/<category>.txt, texts/languages.txt
                    templates, one a line: `question => answer`. `(a|b)` is a choice, `{thing}` a
                    word of texts/words.txt, `{thing*}` the same, sometimes with a phrase that only
                    picks the referent ("the cup on the left"), `\\n` a new line
"""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from emt_core.selection.category.classifier import Classifier
from emt_core.selection.category.grams import NEW_WORD, grams, keys, known_grams
from emt_core.selection.category.turn import exchange

TEXTS = Path(__file__).with_name("texts")
SEED = 0
SAMPLES = 30
"""Texts drawn from a template."""
DRAWN_WEIGHT = 0.8
LABELED_WEIGHT = 5.0
"""Of a row labelled by hand; a drawn text has 1."""
EXAMPLE_WEIGHT = 200.0
"""Of an example in a recipe: a category of its own has few of them."""
NEAR_EXAMPLE = 0.4
"""A shipped text of another category is left out where its cosine to an example is above this."""
REFERENT_SHARE = 0.2
"""How often `{thing*}` gets a phrase that picks the referent."""
NAMES = ("brand", "name", "place")
INVENTED_SHARE = 0.3
"""How often a name is invented, so that the names of words.txt are not what is learned."""
INVERSE_PENALTY = 30.0
"""LogisticRegression's C."""
LETTERS_WEIGHT = 0.6
"""Of a run of letters; a word has 1. More, and a new word is judged by words that look like it."""
LEAST_TEXTS = 3
"""An n-gram in fewer texts is left out."""

_GROUP = re.compile(r"\(([^()]*)\)")
_WORD = re.compile(r"\{(\w+)(\*?)\}")


@dataclass(frozen=True, slots=True)
class Text:
    category: str
    question: str
    answer: str
    weight: float


def training_texts(examples: Mapping[str, Sequence[str]]) -> list[Text]:
    """The shipped texts and a recipe's examples (category -> `question` or `question => answer`).

    The same list every time: SEED draws the templates' words.
    """
    given = [
        Text(name, *_halves(line), EXAMPLE_WEIGHT) for name in examples for line in examples[name]
    ]
    return [*labeled_texts(), *_drawn_texts(), *given]


def labeled_texts() -> list[Text]:
    with (TEXTS / "labeled.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Text(c, _lines(q), _lines(a), LABELED_WEIGHT) for c, q, a in rows]


def _drawn_texts() -> Iterator[Text]:
    rng = random.Random(SEED)
    for category, template in templates():
        question, answer = _halves(template)
        drawn = {(draw(question, rng), draw(answer, rng)) for _ in range(SAMPLES)}
        for asked, said in sorted(drawn):
            yield Text(category, _lines(asked), _lines(said), DRAWN_WEIGHT)


def templates() -> list[tuple[str, str]]:
    """(category, template) of all files, in the order of their names."""
    found = []
    for path in sorted(TEXTS.glob("*.txt")):
        if path.stem == "words":
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            own = path.stem == "languages"
            found.append(tuple(line.split(": ", 1)) if own else (path.stem, line))
    return found


@cache
def template_words() -> dict[str, list[str]]:
    lines = (TEXTS / "words.txt").read_text(encoding="utf-8").splitlines()
    return {name: words.split("|") for name, words in (line.split(": ", 1) for line in lines)}


def draw(template: str, rng: random.Random) -> str:
    """One text of a template, its groups and words drawn by `rng`."""
    while group := _GROUP.search(template):
        chosen = rng.choice(group[1].split("|"))
        template = template[: group.start()] + chosen + template[group.end() :]
    return " ".join(_WORD.sub(lambda word: _drawn_word(word, rng), template).split())


def _drawn_word(word: re.Match[str], rng: random.Random) -> str:
    known = template_words()
    if word[1] not in known:
        return word[0]  # a brace of an answer in JSON
    text = _WORD.sub(lambda inner: _drawn_word(inner, rng), rng.choice(known[word[1]]))
    if word[1] in NAMES and rng.random() < INVENTED_SHARE:
        text = "".join(rng.choice(known["syllable"]) for _ in range(rng.randint(2, 4)))
    if word[2] and rng.random() < REFERENT_SHARE:
        text += " " + draw(rng.choice(known["referent"]), rng)
    return text


def _halves(line: str) -> tuple[str, str]:
    question, _, answer = line.partition("=>")
    return question.strip(), answer.strip()


def _lines(text: str) -> str:
    return text.replace("\\n", "\n")


def fit(texts: Sequence[Text]) -> Classifier:
    """Fit on texts; the same texts give the same classifier."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    named = [_grams(text) for text in texts]
    often = Counter(gram for some in named for gram in set(some))
    common = {gram for gram, n in often.items() if n >= LEAST_TEXTS} | {NEW_WORD}
    rows = [Counter(known_grams(some, common)) for some in named]
    seen = Counter(gram for row in rows for gram in row)
    vocabulary = {gram: place for place, gram in enumerate(sorted(seen))}
    idf = np.log((1 + len(rows)) / (1 + np.array([seen[gram] for gram in vocabulary]))) + 1
    idf *= [LETTERS_WEIGHT if gram.startswith("c:") else 1.0 for gram in vocabulary]
    kept = [[(vocabulary[gram], n) for gram, n in row.items()] for row in rows]
    places = np.array([place for row in kept for place, _ in row], dtype=np.int32)
    counts = np.array([count for row in kept for _, count in row], dtype=np.float64)
    bounds = np.concatenate([[0], np.cumsum([len(row) for row in kept])])
    shape = (len(rows), len(vocabulary))
    matrix = csr_matrix((counts * idf[places], places, bounds), shape=shape)
    lengths = np.sqrt(csr_matrix((counts, places, bounds), shape=shape) @ idf**2)
    matrix.data /= np.repeat(np.maximum(lengths, 1e-9), np.diff(bounds))
    weights = np.array([text.weight for text in texts])
    names = np.array([text.category for text in texts])
    for place in np.flatnonzero(weights == EXAMPLE_WEIGHT):
        near = (matrix @ matrix[place].T).toarray().ravel() > NEAR_EXAMPLE
        weights[near & (names != names[place]) & (weights < EXAMPLE_WEIGHT)] = 0
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=1000)
    model.fit(matrix, names, weights)
    return Classifier(
        tuple(model.classes_.tolist()),
        vocabulary,
        idf.astype(np.float32),
        model.coef_.T.astype(np.float32),
        np.asarray(model.intercept_, np.float32),
    )


def _grams(text: Text) -> list[str]:
    return [g for key in keys(exchange(text.question, text.answer)) for g in grams(key)]
