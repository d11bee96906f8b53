"""How often the rules are right on a labelled file.

    python -m speed.category_accuracy --file tests/worlds/categories/labelled.jsonl --split tune

prints accuracy with its 95 % Wilson interval, precision and recall of each label and the confusion
matrix, in Markdown. `unsure` is a prediction like any other and always wrong. Only aggregates are
printed: rows of the held half stay unseen.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emt_core.data.sample import Turn
from emt_core.errors import EmtError
from emt_core.evaluation.proportion import wilson
from emt_core.selection.category import CATEGORIES, Side, of_side
from emt_core.selection.category.rules import classify

ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Labeled:
    """One labelled conversation and what the rules say of it."""

    id: str
    truth: str
    hard: bool
    split: str
    predicted: str
    rule: str


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
            verdict = classify(turns, sum(turn.text.count("<image>") for turn in turns))
            judged.append(
                Labeled(
                    id=row["id"],
                    truth=row["category"],
                    hard=row["hard"],
                    split=row["split"],
                    predicted=verdict.category,
                    rule=verdict.rule,
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--file", type=Path, default=Path("tests/worlds/categories/labelled.jsonl"))
    parser.add_argument("--split", choices=("tune", "held"), required=True)
    args = parser.parse_args()
    print(report([row for row in judge(args.file) if row.split == args.split]))


if __name__ == "__main__":
    main()
