"""A linear classifier of exchanges: its weights, its judgment, and the words that decided.

An exchange is the sum of its n-grams, each times its idf, scaled to length 1 (repeated n-grams
count each time). The logit of a category is the sum of its weights; softmax gives probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from emt_core.selection.category.grams import grams, keys, known_grams, shown
from emt_core.selection.category.turn import Exchange

SHIPPED = Path(__file__).with_name("weights.npz")
UNSURE_BELOW = 0.4
"""Below this probability, and without a known word, an exchange is `unsure`; docs/categories.md
says how it was chosen."""
EVIDENCE = 3
"""Keys named as evidence."""
NO_WORDS = ("q:^", "q:$", "q:?", "q:!")
KEYS_REMEMBERED = 200_000


@dataclass(frozen=True, slots=True)
class Judgment:
    category: str
    probability: float
    """Of the most probable category, also where the category is `unsure`."""
    evidence: str


class Classifier:
    """categories: names. vocabulary: n-gram -> row of idf [n] and weights [n, categories].

    bias: [categories].
    """

    def __init__(
        self,
        categories: Sequence[str],
        vocabulary: Mapping[str, int],
        idf: np.ndarray,
        weights: np.ndarray,
        bias: np.ndarray,
    ) -> None:
        self.categories = tuple(categories)
        self.vocabulary = vocabulary
        self.idf = idf.astype(np.float32)
        self.weights = weights.astype(np.float32)
        self.bias = bias.astype(np.float32)
        self._forget()

    @classmethod
    def load(cls, path: Path) -> Classifier:
        with np.load(path, allow_pickle=False) as file:
            names = bytes(file["vocabulary"]).decode("utf-8").split("\n")
            vocabulary = {name: place for place, name in enumerate(names)}
            categories = file["categories"].tolist()
            return cls(categories, vocabulary, file["idf"], file["weights"], file["bias"])

    def save(self, path: Path) -> None:
        """Without pickle; idf and weights in half precision."""
        text = "\n".join(self.vocabulary).encode("utf-8")
        np.savez_compressed(
            path,
            categories=np.array(self.categories),
            vocabulary=np.frombuffer(text, np.uint8),
            idf=self.idf.astype(np.float16),
            weights=self.weights.astype(np.float16),
            bias=self.bias,
        )

    def judge(self, exchanges: Sequence[Exchange]) -> list[Judgment]:
        """A judgment for each exchange; which others stand beside it changes nothing."""
        if not exchanges:
            return []
        if len(self._rows) > KEYS_REMEMBERED:
            self._forget()
        named = [keys(exchange) for exchange in exchanges]
        rows = np.array([self._row(key) for some in named for key in some])
        bounds = np.cumsum([0, *map(len, named)])
        sums = np.add.reduceat(self._sums[rows], bounds[:-1], axis=0)
        lengths = np.sqrt(np.maximum(sums[:, -1:], 1e-9))
        probability = softmax(sums[:, :-1] / lengths + self.bias)
        best = probability.argmax(axis=1)
        # without one known word the length of the answer would decide
        of_words = np.array(
            [key[0] == "q" and key not in NO_WORDS for some in named for key in some]
        )
        known = np.add.reduceat(of_words & (self._sums[rows, -1] > 0), bounds[:-1])
        bare = [len(exchange.question) == 2 for exchange in exchanges]
        sure = (probability.max(axis=1) >= UNSURE_BELOW) & ((known > 0) | bare)
        spoken = self._sums[rows, np.repeat(best, np.diff(bounds))]
        return [
            Judgment(
                self.categories[best[i]] if sure[i] else "unsure",
                float(probability[i, best[i]]),
                _evidence(some, spoken[bounds[i] : bounds[i + 1]]),
            )
            for i, some in enumerate(named)
        ]

    def _forget(self) -> None:
        self._rows: dict[str, int] = {}
        self._sums = np.empty((4096, len(self.categories) + 1), np.float32)

    def _row(self, key: str) -> int:
        """The key's row of _sums: over its n-grams, idf times weights, and squares of idf."""
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._rows)
            if row == len(self._sums):
                self._sums = np.concatenate([self._sums, np.empty_like(self._sums)])
            places = [self.vocabulary[gram] for gram in known_grams(grams(key), self.vocabulary)]
            idf = self.idf[places]
            self._sums[row, :-1] = idf @ self.weights[places]
            self._sums[row, -1] = idf @ idf
        return row


def _evidence(named: Sequence[str], spoken: np.ndarray) -> str:
    """The keys that speak most for the category, strongest first."""
    strongest = np.argsort(-spoken, kind="stable")[:EVIDENCE].tolist()
    texts = [shown(named[int(place)]) for place in strongest if spoken[place] > 0]
    return " | ".join(dict.fromkeys(texts)) or "nothing known"


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@cache
def shipped_classifier() -> Classifier:
    """The classifier of the eight categories, made by demo/category_weights.py."""
    return Classifier.load(SHIPPED)
