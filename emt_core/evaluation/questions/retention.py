"""The answers of two models to the same questions, judged and counted.

While they are asked, row `n` is question `n % N` of all N, in order, to the side `n // N`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError
from emt_core.evaluation.proportion import wilson
from emt_core.evaluation.questions.question import Question
from emt_core.evaluation.questions.scoring import is_right
from emt_core.evaluation.questions.suites import read_suite
from emt_core.recipe.retain import RetainConfig
from emt_core.run.shards import Shard, cut, done_shards, read_shard
from emt_core.workspace.files import write_json

SIDES = ("origin", "midtrained")
"""The two models that are compared."""


def load_suites(config: RetainConfig, base: Path) -> dict[str, list[Question]]:
    """Questions by suite. Raises EmtError where two of a suite have the same id."""
    suites = {name: read_suite(suite, base) for name, suite in config.files.items()}
    for name, questions in suites.items():
        ids = [question.id for question in questions]
        if len(set(ids)) < len(ids):
            twice = next(own_id for own_id in ids if ids.count(own_id) > 1)
            raise EmtError(
                f"two questions have the id {twice!r}",
                where=f"suite {name}",
                remedy="ids tell answers apart",
            )
    return suites


def shards_of(suites: Mapping[str, Sequence[Question]], batch: int) -> Iterator[Shard]:
    """Batches of questions: of one suite and to one side."""
    start = 0
    for _ in SIDES:
        for questions in suites.values():
            yield from cut(start, start + len(questions), batch)
            start += len(questions)


def read_answers(out: Path) -> dict[int, str]:
    """Row -> answer, of all shards that are done; those of another batch size are as good."""
    found: dict[int, str] = {}
    for shard in done_shards(out):
        answers = read_shard(out, shard)["answers"]
        found |= zip(range(shard.start, shard.stop), answers, strict=True)
    return found


def write_results(
    out: Path, suites: Mapping[str, Sequence[Question]], answers: Mapping[int, str]
) -> dict[str, Any]:
    """Judge all answers; write answers.parquet and results.json (stages/retain.py has their
    layout). Returns what results.json holds. answers: by row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    asked = [(suite, question) for suite, questions in suites.items() for question in questions]
    rows = []
    for row, (suite, question) in enumerate(asked):
        said = {side: answers[row + at * len(asked)] for at, side in enumerate(SIDES)}
        rows.append(
            {
                "suite": suite,
                "category": question.category,
                "question": question.text,
                "answer": question.answer,
                **{f"{side}_answer": text for side, text in said.items()},
                **{f"{side}_correct": is_right(question, text) for side, text in said.items()},
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), out / "answers.parquet")
    results = {suite: _rates([row for row in rows if row["suite"] == suite]) for suite in suites}
    write_json(out / "results.json", results)
    return results


def _rates(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Share of right answers with its Wilson 95 % interval, by category; `all` first."""
    groups = {"all": rows}
    for row in rows:
        category = row["category"] if row["category"] != "all" else "all categories"
        groups.setdefault(category, []).append(row)
    rates: dict[str, Any] = {}
    for name, members in groups.items():
        rates[name] = {"n": len(members)}
        for side in SIDES:
            right = sum(row[f"{side}_correct"] for row in members)
            low, high = wilson(right, len(members))
            rate = right / len(members)  # rounding must not push an end past it
            rates[name][side] = {"rate": rate, "low": min(low, rate), "high": max(high, rate)}
    return rates
