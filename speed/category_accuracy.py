"""How often the classifier is right on a labelled file.

    python -m speed.category_accuracy --split held            # or tune
    python -m speed.category_accuracy --split fresh --file tests/worlds/categories/fresh.jsonl
    python -m speed.category_accuracy --split held2 --file tests/worlds/categories/held2.jsonl
    python -m speed.category_accuracy --split held --apart    # no near-copies of training texts
    python -m speed.category_accuracy --calibration           # right answers by probability

prints accuracy with its 95 % Wilson interval, precision and recall of each label and the confusion
matrix, in Markdown. `unsure` is a prediction like any other and always wrong. Only aggregates are
printed: rows of the held half stay unseen.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emt_core.data.sample import Turn
from emt_core.errors import EmtError
from emt_core.evaluation.proportion import wilson
from emt_core.selection.category import CATEGORIES, Side, of_side
from emt_core.selection.category.classifier import shipped_classifier
from emt_core.selection.category.conversation import classify
from emt_core.selection.category.training import fit, labeled_texts, training_texts
from emt_core.selection.category.turn import exchange

ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}

NEAR_COPY = 0.7
"""Shared words over all words (Jaccard), as in tests/worlds/categories/split.py."""
FOLDS = 5
BINS = (0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)


@dataclass(frozen=True, kw_only=True, slots=True)
class Labeled:
    """One labelled conversation and what the classifier says of it."""

    id: str
    truth: str
    hard: bool
    split: str
    predicted: str
    asked: str
    """What the user said, in all turns."""


def judge(file: Path) -> list[Labeled]:
    """Classify all rows of a labelled JSON-lines file (tests/worlds/categories/GUIDE.md)."""
    judged = []
    try:
        lines = (
            file.read_bytes().splitlines()
        )  # of bytes: a str would also be cut at U+2028, which JSON lets stand
    except OSError as error:
        raise EmtError("the labelled file cannot be read", where=file) from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            turns = [Turn(role=ROLES[t["from"]], text=t["value"]) for t in row["conversations"]]  # type: ignore[arg-type]
            images = sum(turn.text.count("<image>") for turn in turns)
            [judgment] = classify([(turns, images)], shipped_classifier())
            judged.append(
                Labeled(
                    id=row["id"],
                    truth=row["category"],
                    hard=row["hard"],
                    split=row["split"],
                    predicted=judgment.category,
                    asked=" ".join(turn.text for turn in turns if turn.role == "user"),
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise EmtError(
                f"a row is not in the labelled format ({error!r})", where=f"{file}, line {number}"
            ) from error
    return judged


def accuracy(rows: Sequence[Labeled]) -> str:
    """`93.4 % (254 of 272; 95 % interval 89.8 to 95.8)`."""
    right = sum(row.truth == row.predicted for row in rows)
    low, high = wilson(right, len(rows))
    share = right / len(rows) if rows else float("nan")
    return f"{share:.1%} ({right} of {len(rows)}; 95 % interval {low:.1%} to {high:.1%})"


def report(rows: Sequence[Labeled]) -> str:
    """The Markdown tables that docs/categories.md holds."""
    labels = [name for name in CATEGORIES if name != "unsure"]
    pairs = Counter((row.truth, row.predicted) for row in rows)
    lines = [
        f"- all rows: {accuracy(rows)}",
        f"- hard rows: {accuracy([row for row in rows if row.hard])}",
        f"- other rows: {accuracy([row for row in rows if not row.hard])}",
        f"- `unsure`: {sum(row.predicted == 'unsure' for row in rows)}",
        *(_side_line(rows, side) for side in ("embodied", "reading")),
        "",
        "| label | rows | precision | recall |",
        "|---|---:|---:|---:|",
    ]
    for label in labels:
        truth = sum(n for (t, _), n in pairs.items() if t == label)
        said = sum(n for (_, p), n in pairs.items() if p == label)
        hit = pairs[label, label]
        lines.append(f"| {label} | {truth} | {_share(hit, said)} | {_share(hit, truth)} |")
    lines += [
        "",
        "| truth \\ said | " + " | ".join(CATEGORIES) + " |",
        "|---|" + "---:|" * len(CATEGORIES),
    ]
    for label in labels:
        cells = [str(pairs[label, name] or "") for name in CATEGORIES]
        lines.append(f"| **{label}** | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _side_line(rows: Sequence[Labeled], side: Side) -> str:
    """How well the sides of the paper's contrast are told apart, which confusions inside a side do
    not touch."""
    names = of_side(side)
    truth = sum(row.truth in names for row in rows)
    said = sum(row.predicted in names for row in rows)
    both = sum(row.truth in names and row.predicted in names for row in rows)
    precision = _share(both, said)
    recall = _share(both, truth)
    return f"- {side} side ({', '.join(names)}): precision {precision}, recall {recall}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def apart(rows: Sequence[Labeled]) -> list[Labeled]:
    """The rows whose question shares less than NEAR_COPY of its words with any training text."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(
        analyzer=lambda text: set(exchange(text, "").question[1:-1]) - {"?", "!"}
    )
    texts = vectorizer.fit_transform([text.question for text in training_texts({})])
    asked = vectorizer.transform([row.asked for row in rows])
    own = np.array([len(set(exchange(row.asked, "").question[1:-1]) - {"?", "!"}) for row in rows])
    shared = (asked @ texts.T).toarray()
    either = own[:, None] + np.asarray(texts.sum(axis=1)).ravel() - shared
    nearest = (shared / np.maximum(either, 1)).max(axis=1)
    return [row for row, near in zip(rows, nearest, strict=True) if near < NEAR_COPY]


def calibration() -> str:
    """Right answers by probability, on labelled training rows that a fit has not seen (5 folds)."""
    labeled = labeled_texts()
    drawn = training_texts({})[len(labeled) :]
    fold = np.random.default_rng(0).permutation(len(labeled)) % FOLDS
    pairs: list[tuple[float, bool]] = []
    for k in range(FOLDS):
        classifier = fit([*(t for t, f in zip(labeled, fold, strict=True) if f != k), *drawn])
        kept = [t for t, f in zip(labeled, fold, strict=True) if f == k]
        judged = classifier.judge([exchange(t.question, t.answer) for t in kept])
        pairs += [
            (j.probability, j.category == t.category) for j, t in zip(judged, kept, strict=True)
        ]
    lines = ["| probability | rows | right |", "|---|---:|---:|"]
    for low, high in itertools.pairwise(BINS):
        right = [good for probability, good in pairs if low <= probability < high]
        lines.append(
            f"| {low:.1f} to {min(high, 1):.1f} | {len(right)} | {_share(sum(right), len(right))} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--file", type=Path, default=Path("tests/worlds/categories/labelled.jsonl"))
    parser.add_argument("--split", choices=("tune", "held", "held2", "fresh"), default="tune")
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--calibration", action="store_true")
    args = parser.parse_args()
    if args.calibration:
        print(calibration())
        return
    rows = [row for row in judge(args.file) if row.split == args.split]
    print(report(apart(rows) if args.apart else rows))


if __name__ == "__main__":
    main()
