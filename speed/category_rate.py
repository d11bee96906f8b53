"""Conversations a second on one core: the classifier alone, and the whole category stage.

    python speed/category_rate.py [--stage-rows 100000]

The goal is 20,000 conversations a second and core. Rates are of CPU time: on a shared machine the
wall time is other people's. One-question conversations are the labelled training texts;
five-question ones join five of them.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from emt_core.data.sample import Turn
from emt_core.recipe.category import CategoryConfig
from emt_core.selection.category.classifier import shipped_classifier
from emt_core.selection.category.conversation import classify
from emt_core.selection.category.training import labeled_texts
from emt_core.workspace.table import Table

ROOT = Path(__file__).parents[1]
REPEATS = 5
CONVERSATIONS = 4000
BATCH_ROWS = 2048


def questions() -> list[tuple[str, str]]:
    return [("<image>\n" + text.question, text.answer) for text in labeled_texts()]


def conversations(pairs: Sequence[tuple[str, str]], turns: int) -> list[list[Turn]]:
    rng = random.Random(0)
    chosen = [rng.choices(pairs, k=turns) for _ in range(CONVERSATIONS)]
    return [
        [Turn(role=r, text=t) for q, a in some for r, t in (("user", q), ("assistant", a))]
        for some in chosen
    ]


def rate(made: list[list[Turn]]) -> tuple[float, float]:
    """(best, median) conversations a CPU second over REPEATS passes; the first pass warms up."""
    rates = []
    for _ in range(REPEATS + 1):
        started = time.process_time()
        for start in range(0, len(made), BATCH_ROWS):
            batch = [(turns, 1) for turns in made[start : start + BATCH_ROWS]]
            classify(batch, shipped_classifier())
        rates.append(len(made) / (time.process_time() - started))
    ordered = sorted(rates[1:])
    return ordered[-1], ordered[len(ordered) // 2]


def stage(rows: int, pairs: list[tuple[str, str]]) -> float:
    """CPU seconds of the stage over an index of `rows` rows: reading the index, judging, writing
    the table."""
    sys.path.insert(0, str(ROOT / "tests" / "worlds"))
    from synthetic import make_workspace, pool, run_stage

    with tempfile.TemporaryDirectory() as folder:
        made = make_workspace(Path(folder), [pool("web", rows, texts=pairs)], dim=8)
        started = time.process_time()
        artifact = run_stage(made, "category", CategoryConfig())
        spent = time.process_time() - started
        assert Table(artifact.data / "category.lance").rows == rows
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage-rows", type=int, default=100_000)
    args = parser.parse_args()
    pairs = questions()
    print(
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {len(pairs)} different questions"
    )
    for turns in (1, 5):
        best, median = rate(conversations(pairs, turns))
        print(
            f"classifier, {turns} question(s) a conversation: {median:,.0f}/s of CPU (best of "
            f"{REPEATS}: {best:,.0f}/s)"
        )
    per_second = args.stage_rows / stage(args.stage_rows, pairs)
    print(f"stage, {args.stage_rows:,} rows of 1 question: {per_second:,.0f} rows/s of CPU")


if __name__ == "__main__":
    main()
