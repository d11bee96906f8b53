"""TODO."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError
from emt_core.recipe.retain import RetainConfig
from emt_core.workspace.lines import whole_lines

if TYPE_CHECKING:
    from emt_core.evaluation.questions.question import Question


SIDES = ("origin", "midtrained")


def load_suites(config: RetainConfig, base: Path) -> dict[str, list[Question]]:
    """Questions by suite. Raises EmtError where two of a suite have the same id."""
    from demo.questions import demo_questions
    from emt_core.evaluation.questions.public import read_suite

    suites = {"demo": demo_questions(config.demo, config.demo_seed)} if config.demo else {}
    for name, suite in config.files.items():
        suites[name] = read_suite(suite, base)
    for name, questions in suites.items():
        ids = [question.id for question in questions]
        if len(set(ids)) < len(ids):
            twice = next(sample for sample in ids if ids.count(sample) > 1)
            raise EmtError(
                f"two questions have the id {twice!r}",
                where=f"suite {name}",
                remedy="ids tell answers apart",
            )
    return suites


def read_answers(path: Path) -> dict[tuple[str, str], str]:
    """(suite, id) -> answer, as far as an interrupted run came."""
    return {(entry["suite"], entry["id"]): entry["answer"] for entry in whole_lines(path)}


def _keep(path: Path, suite: str, questions: Sequence[Question], answers: Sequence[str]) -> None:
    lines = [
        json.dumps({"suite": suite, "id": question.id, "answer": answer}, ensure_ascii=False) + "\n"
        for question, answer in zip(questions, answers, strict=True)
    ]
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(lines))


def _write(
    out: Path, suites: dict[str, list[Question]], answers: dict[str, dict[tuple[str, str], str]]
) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from emt_core.evaluation.questions.scoring import is_right
    from emt_core.workspace.files import write_json

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
    """By category, `all` first; Wilson 95 % intervals."""
    from emt_core.evaluation.proportion import wilson

    groups = {"all": rows}
    for row in rows:
        category = row["category"] if row["category"] != "all" else "all categories"
        groups.setdefault(category, []).append(row)
    found = {}
    for name, mine in groups.items():
        found[name] = {"n": len(mine)}
        for side in SIDES:
            right = sum(row[f"{side}_correct"] for row in mine)
            low, high = wilson(right, len(mine))
            rate = right / len(mine)  # rounding must not push an end past it
            found[name][side] = {"rate": rate, "low": min(low, rate), "high": max(high, rate)}
    return found
