"""The answers of two models to the same questions: kept as they come, then judged and counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emt_core.errors import EmtError
from emt_core.evaluation.proportion import wilson
from emt_core.evaluation.questions.question import Question
from emt_core.evaluation.questions.scoring import is_right
from emt_core.evaluation.questions.suites import read_suite
from emt_core.recipe.retain import RetainConfig
from emt_core.workspace.files import write_json
from emt_core.workspace.lines import whole_lines

SIDES = ("origin", "midtrained")
"""The two models that are compared."""

Answers = dict[tuple[str, str], str]
"""(suite, question id) -> answer."""


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


def read_answers(path: Path) -> Answers:
    """The answers that an interrupted run has kept; a line that was cut off is dropped."""
    return {(entry["suite"], entry["id"]): entry["answer"] for entry in whole_lines(path)}


def keep_answers(
    path: Path, suite: str, questions: Sequence[Question], answers: Sequence[str]
) -> None:
    """Append a JSON line for each answer."""
    lines = [
        json.dumps({"suite": suite, "id": question.id, "answer": answer}, ensure_ascii=False) + "\n"
        for question, answer in zip(questions, answers, strict=True)
    ]
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(lines))


def write_results(
    out: Path, suites: dict[str, list[Question]], answers: dict[str, Answers]
) -> dict[str, Any]:
    """Judge all answers; write answers.parquet and results.json (stages/retain.py has their
    layout). Returns what results.json holds. answers: by side."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for suite, questions in suites.items():
        for question in questions:
            said = {side: answers[side][suite, question.id] for side in SIDES}
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
