"""retain: what the VLM keeps. The mid-trained model beside its origin, the same questions, greedy (Table 7).

answers.parquet     suite category question answer origin_answer midtrained_answer origin_correct midtrained_correct
results.json        {suite: {"all" | category: {"n", "origin": {"rate", "low", "high"}, "midtrained": {...}}}}
origin.jsonl, midtrained.jsonl      {"suite", "id", "answer"} a line, while building only: a kill costs one batch
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.artifact import canonical_json
from emt_core.errors import EmtError
from emt_core.json_lines import whole_lines
from emt_core.stages import Context, Outcome
from emt_core.train_config import RetainConfig

if TYPE_CHECKING:
    from emt_core.questions.question import Question

VERSION = 2
IDENTITY_REPLACES = ("model", "revision", "files")
SIDES = ("origin", "midtrained")


def identity(config: RetainConfig, base: Path) -> dict[str, Any]:
    """The origin's files, what each suite's files hold, and names and sizes of the images beside them."""
    from emt_core.model_identity import model_identity
    from emt_core.questions.public import images_beside
    from emt_core.readers.fingerprint import content_hash

    if not config.model:
        raise EmtError(
            "retain has no model", where="retain.model", remedy="give the recipe a `backbone`, a folder or hub name"
        )
    suites = {}
    for name, suite in config.files.items():
        path = base / Path(suite.path).expanduser()
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise EmtError("there is no such file of questions", where=path, remedy=f"check retain.files.{name}.path")
        root = path if path.is_dir() else path.parent  # BLINK's sub-tasks are folders with files of one name
        suites[name] = {
            "format": suite.format,
            "limit": suite.limit,
            "files": {file.relative_to(root).as_posix(): content_hash(file) for file in files},
            "images": hashlib.sha256(canonical_json(images_beside(suite, base)).encode()).hexdigest()[:32],
        }
    return {**model_identity(config.model, config.revision, base), "suites": suites}


def run(context: Context) -> Outcome:
    from emt_core.model_identity import locate_model
    from emt_core.questions.answering import Answerer

    config = context.config
    assert isinstance(config, RetainConfig)
    midtrain = context.parents["midtrain"]
    _check_origin(context, midtrain.manifest["identity"])
    suites = load_suites(config, context.base)
    total = sum(len(questions) for questions in suites.values())
    models = {
        "origin": (str(locate_model(config.model, context.base)), context.identity.get("revision") or config.revision),
        "midtrained": (str(midtrain.data / "model"), None),
    }
    answers: dict[str, dict[tuple[str, str], str]] = {}
    for side, (model, revision) in models.items():
        path = context.out / f"{side}.jsonl"
        answers[side] = done = read_answers(path)
        with context.progress.track(f"asking the {side}", total, done=len(done), unit="questions") as tracker:
            if len(done) < total:
                answerer = Answerer(
                    model,
                    revision=revision,
                    device=context.runtime.device,
                    precision=config.precision,
                    max_new_tokens=config.max_new_tokens,
                    max_image_pixels=config.max_image_pixels,
                )
            for suite, questions in suites.items():
                left = [question for question in questions if (suite, question.id) not in done]
                for at in range(0, len(left), context.runtime.batch_size):
                    batch = left[at : at + context.runtime.batch_size]
                    found = answerer.answers(batch)  # pyright: ignore[reportPossiblyUnboundVariable]
                    _keep(path, suite, batch, found)
                    done.update({(suite, q.id): text for q, text in zip(batch, found, strict=True)})
                    tracker.advance(len(batch))
    results = _write(context.out, suites, answers)
    rates = {
        suite: {side: facts["all"][side]["rate"] for side in SIDES} | {"n": facts["all"]["n"]}
        for suite, facts in results.items()
    }
    return Outcome(rows=total, metrics={"suites": rates}, scratch=tuple(f"{side}.jsonl" for side in SIDES))


def load_suites(config: RetainConfig, base: Path) -> dict[str, list[Question]]:
    """Questions by suite. Raises EmtError where two of a suite have the same id."""
    from emt_core.questions.demo import demo_questions
    from emt_core.questions.public import read_suite

    suites = {"demo": demo_questions(config.demo, config.demo_seed)} if config.demo else {}
    for name, suite in config.files.items():
        suites[name] = read_suite(suite, base)
    for name, questions in suites.items():
        ids = [question.id for question in questions]
        if len(set(ids)) < len(ids):
            twice = next(sample for sample in ids if ids.count(sample) > 1)
            raise EmtError(
                f"two questions have the id {twice!r}", where=f"suite {name}", remedy="ids tell answers apart"
            )
    return suites


def _check_origin(context: Context, trained_from: dict[str, Any]) -> None:
    own = {name: value for name, value in context.identity.items() if name != "suites"}
    if own != trained_from:
        raise EmtError(
            "the model to compare with is not the one that was mid-trained",
            where="retain.model",
            remedy="leave `model` out: it is the recipe's backbone then",
        )


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

    from emt_core.artifact import write_json
    from emt_core.questions.scoring import is_right

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
    from emt_core.metrics.proportion import wilson

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
