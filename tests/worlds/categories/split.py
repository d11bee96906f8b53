"""Validate `labelled.jsonl` and give each row its `split`: half `tune`, half `held`, stratified by
(category, hard).

    python tests/worlds/categories/split.py            # validate, write the split, print counts
    python tests/worlds/categories/split.py --check    # validate and compare only; exit 1 if the
    file would change

The split is a pure function of the rows (seed fixed, order of the file irrelevant), so a second run
changes nothing.
Near-duplicates (nearly the same words, of all turns or of the user's alone, once case, digits,
punctuation and stock
instructions are gone) are kept on one side: a rule tuned on a row must not meet its twin among the
held ones. Prompts
that are nothing but stock ("<image>" alone) have no words of their own; there the answers decide.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

FILE = Path(__file__).with_name("labelled.jsonl")
SEED = 20260420
LABELS = ("spatial", "grounding", "text", "chart", "caption", "vqa", "robot", "other")
FIELDS = ("id", "style_of", "conversations", "category", "hard", "note", "split")
MIN_ROWS = 480
MIN_HARD = 100
MAX_SHARE = 0.22
MAX_TURNS = 20
MIN_PER_LABEL = dict.fromkeys(LABELS, 45) | {"other": 35}
NEAR_DUPLICATE = 0.7  # Jaccard overlap of word sets

# Public sets append these to thousands of questions; two rows are not twins because they share one.
STOCK = re.compile(
    r"answer the question using a single word or phrase"
    r"|answer with the option'?s letter from the given choices directly"
    r"|your answer should be formatted as a list of tuples.*?(?=$|\n)"
    r"|please provide a short description for this region"
    r"|please provide the bounding box coordinate of the region this sentence describes"
    r"|provide a one-sentence caption for the provided image"
)


def words(row: dict, *, speakers: tuple[str, ...] = ("human", "gpt")) -> frozenset[str]:
    """The normalised words of one row's turns by `speakers`."""
    text = " ".join(turn["value"] for turn in row["conversations"] if turn["from"] in speakers)
    text = text.lower().replace("<image>", " ")
    return frozenset(re.findall(r"[^\W\d_]+", STOCK.sub(" ", text)))


def problems(rows: list[dict]) -> list[str]:
    """Every violation of GUIDE.md's format, one line each; empty when the file is sound."""
    bad: list[str] = []
    ids = Counter(row.get("id") for row in rows)
    bad += [f"{i}: id occurs {n} times" for i, n in ids.items() if n > 1]
    seen: dict[str, str] = {}
    for row in rows:
        rid = row.get("id", "?")
        if not re.fullmatch(r"c\d{4}", rid):
            bad.append(f"{rid}: id is not c0000")
        if unknown := set(row) - set(FIELDS):
            bad.append(f"{rid}: unknown fields {sorted(unknown)}")
        if row["category"] not in LABELS:
            bad.append(f"{rid}: unknown label {row['category']!r}")
        if not row["style_of"].strip():
            bad.append(f"{rid}: style_of is empty")
        turns = row["conversations"]
        if [t["from"] for t in turns] != ["human", "gpt"] * (len(turns) // 2) or not turns:
            bad.append(f"{rid}: roles do not alternate human, gpt")
        if len(turns) > 2 * MAX_TURNS:
            bad.append(f"{rid}: more than {MAX_TURNS} turns")
        if any(not t["value"].strip() for t in turns) or any(
            "<image>" in t["value"] for t in turns[1:]
        ):
            bad.append(f"{rid}: an empty turn, or <image> outside the first turn")
        note = re.match(r"not (\w+): \S", row.get("note", ""))
        if row["hard"] and (not note or note[1] not in LABELS or note[1] == row["category"]):
            bad.append(f"{rid}: hard, but its note does not start with 'not <another label>: why'")
        if not row["hard"] and "note" in row:
            bad.append(f"{rid}: has a note but is not hard")
        text = json.dumps([t["value"] for t in turns], ensure_ascii=False)
        if text in seen:
            bad.append(f"{rid}: same conversation as {seen[text]}")
        seen[text] = rid
    labels = Counter(row["category"] for row in rows)
    bad += [
        f"{name}: {labels[name]} rows, {n} wanted"
        for name, n in MIN_PER_LABEL.items()
        if labels[name] < n
    ]
    bad += [
        f"{name}: more than {MAX_SHARE:.0%} of rows"
        for name, n in labels.items()
        if n > MAX_SHARE * len(rows)
    ]
    if len(rows) < MIN_ROWS or sum(row["hard"] for row in rows) < MIN_HARD:
        bad.append(f"{len(rows)} rows, {sum(row['hard'] for row in rows)} hard: too few")
    return bad


def overlap(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard overlap of two word sets, 0 where both are empty."""
    return len(a & b) / max(1, len(a | b))


def twins(rows: list[dict]) -> list[tuple[dict, dict]]:
    """Pairs of rows whose words overlap by at least NEAR_DUPLICATE, in all turns or in the
    user's."""
    bags = [(words(row), words(row, speakers=("human",))) for row in rows]
    return [
        (rows[i], rows[j])
        for i, j in combinations(range(len(rows)), 2)
        if any(overlap(a, b) >= NEAR_DUPLICATE for a, b in zip(bags[i], bags[j], strict=True))
    ]


def assign(rows: list[dict]) -> None:
    """Write `split` into each row: shuffle within (category, hard) by SEED, deal in turn, twins
    follow the lower id."""
    rng = random.Random(SEED)
    strata: dict[tuple[str, bool], list[dict]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: r["id"]):
        strata[row["category"], row["hard"]].append(row)
    first = 0  # odd strata give their extra row to alternating sides
    for key in sorted(strata):
        rng.shuffle(strata[key])
        for k, row in enumerate(strata[key]):
            row["split"] = ("tune", "held")[(k + first) % 2]
        first += len(strata[key]) % 2
    by_id = {row["id"]: row for row in rows}
    for a, b in twins(rows):
        low, high = sorted((a["id"], b["id"]))
        by_id[high]["split"] = by_id[low]["split"]


def report(rows: list[dict]) -> str:
    """Counts by label, split and hard; the label pairs that hard rows cover; conversation
    lengths."""
    count = Counter((r["category"], r["split"], r["hard"]) for r in rows)
    lines = [
        f"{'label':<10} {'tune':>5} {'hard':>5} {'held':>5} {'hard':>5} {'all':>5} {'share':>6}"
    ]
    for name in (*LABELS, "all"):
        pick = LABELS if name == "all" else (name,)
        sums = [
            [sum(count[p, s, h] for p in pick) for h in (False, True)] for s in ("tune", "held")
        ]
        cell = [n for easy, hard in sums for n in (easy + hard, hard)]
        total = cell[0] + cell[2]
        lines.append(
            f"{name:<10} "
            + " ".join(f"{n:>5}" for n in (*cell, total))
            + f" {total / len(rows):>6.1%}"
        )
    pairs = Counter(
        frozenset((r["category"], r["note"].split()[1].rstrip(":"))) for r in rows if r["hard"]
    )
    lines += [
        f"hard pairs: {' '.join(f'{a}/{b}:{pairs[frozenset((a, b))]}' for a, b in combinations(LABELS, 2))}"
    ]
    turns = [len(r["conversations"]) // 2 for r in rows]
    lines += [f"user turns: {sum(t > 1 for t in turns)} rows with 2 or more, at most {max(turns)}"]
    lines += [f"near-duplicates: {len(twins(rows))} pairs, none across the split"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the file would change"
    )
    args = parser.parse_args()
    before = FILE.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in before.splitlines()]
    if bad := problems(rows):
        print("\n".join(bad), file=sys.stderr)
        return 1
    assign(rows)
    if across := [(a["id"], b["id"]) for a, b in twins(rows) if a["split"] != b["split"]]:
        print(f"near-duplicates across the split: {across}", file=sys.stderr)
        return 1
    lines = ({k: row[k] for k in FIELDS if k in row} for row in rows)
    after = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
    print(report(rows))
    if args.check:
        return int(after != before)
    FILE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
