"""retain: what the VLM keeps. The mid-trained model beside its origin, same questions (Table 7).

answers.parquet    suite category question answer origin_answer midtrained_answer origin_correct
                   midtrained_correct
results.json       {suite: {"all" | category: {"n", "origin": {"rate", "low", "high"},
                   "midtrained": {...}}}}

While building only, origin.jsonl and midtrained.jsonl hold {"suite", "id", "answer"} a line: a kill
costs one batch. Answers are greedy.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError, all_of
from emt_core.evaluation.questions.retention import (
    SIDES,
    Answers,
    keep_answers,
    load_suites,
    read_answers,
    write_results,
)
from emt_core.recipe.midtrain import interpolated_folder
from emt_core.recipe.retain import QuestionFile, RetainConfig
from emt_core.run.plan import Instance
from emt_core.run.stage import Context, Outcome
from emt_core.workspace.artifact import digest_of

if TYPE_CHECKING:
    from emt_core.evaluation.questions.question import Question

VERSION = 2
DEVICE = True
IDENTITY_REPLACES = ("model", "revision", "files")


def identity(config: RetainConfig, base: Path) -> dict[str, Any]:
    """The origin's files, what each suite's files hold, the images beside them by name and size."""
    from emt_core.models.identity import model_identity, need_model

    need_model(config.model, "retain")
    suites, model = all_of(
        (
            partial(_suites, config, base),
            partial(model_identity, config.model, config.revision, base),
        )
    )
    return {**model, "suites": suites}


def _suites(config: RetainConfig, base: Path) -> dict[str, Any]:
    calls = (partial(_suite, name, suite, base) for name, suite in config.files.items())
    return dict(zip(config.files, all_of(calls), strict=True))


def _suite(name: str, suite: QuestionFile, base: Path) -> dict[str, Any]:
    from emt_core.data.fingerprint import content_hash
    from emt_core.evaluation.questions.suites import images_beside

    path = base / Path(suite.path).expanduser()
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise EmtError(
            "there is no such file of questions",
            where=path,
            remedy=f"check retain.files.{name}.path",
        )
    # BLINK's sub-tasks are folders with files of one name
    root = path if path.is_dir() else path.parent
    return {
        "format": suite.format,
        "limit": suite.limit,
        "files": {file.relative_to(root).as_posix(): content_hash(file) for file in files},
        "images": digest_of(images_beside(suite, base), 32),
    }


def check(instance: Instance, base: Path) -> None:
    """Raises EmtError for weights that mid-training does not keep."""
    config = instance.config
    assert isinstance(config, RetainConfig)
    trained: Any = instance.parents["midtrain"].config
    trained.model_folder(config.interpolate, stage="retain")


def run(context: Context) -> Outcome:
    from emt_core.models.identity import locate_model

    config = context.config
    assert isinstance(config, RetainConfig)
    midtrain = context.parents["midtrain"]
    _check_origin(context, midtrain.manifest["identity"])
    suites = load_suites(config, context.base)
    total = sum(len(questions) for questions in suites.values())
    origin = str(locate_model(config.model, context.base))
    revision = context.identity.get("revision") or config.revision
    trained = str(midtrain.data / interpolated_folder(config.interpolate))
    answers = {
        "origin": _ask(context, "origin", origin, revision, suites),
        "midtrained": _ask(context, "midtrained", trained, None, suites),
    }
    results = write_results(context.out, suites, answers)
    rates = {
        suite: {side: facts["all"][side]["rate"] for side in SIDES} | {"n": facts["all"]["n"]}
        for suite, facts in results.items()
    }
    return Outcome(
        rows=total, metrics={"suites": rates}, scratch=tuple(f"{side}.jsonl" for side in SIDES)
    )


def _ask(
    context: Context,
    side: str,
    model: str,
    revision: str | None,
    suites: dict[str, list[Question]],
) -> Answers:
    """The model's answers to all questions; those that an interrupted run kept are not asked again.

    The model is gone from memory when this returns: the next side loads another one.
    """
    from emt_core.evaluation.questions.answering import Answerer
    from emt_core.models.device import settled_arithmetic

    config = context.config
    assert isinstance(config, RetainConfig)
    settled = settled_arithmetic(context.out, config.precision, context.runtime.device)
    path = context.out / f"{side}.jsonl"
    done = read_answers(path)
    total = sum(len(questions) for questions in suites.values())
    if len(done) == total:
        return done
    progress = context.progress.track(f"asking the {side}", total, done=len(done), unit="questions")
    with progress as tracker:
        answerer = Answerer(
            model,
            revision=revision,
            device=context.runtime.device,
            precision=settled.dtype,
            max_new_tokens=config.max_new_tokens,
            max_image_pixels=config.max_image_pixels,
        )
        for suite, questions in suites.items():
            left = [question for question in questions if (suite, question.id) not in done]
            for at in range(0, len(left), context.runtime.batch):
                batch = left[at : at + context.runtime.batch]
                texts = answerer.answers(batch)
                keep_answers(path, suite, batch, texts)
                done.update({(suite, q.id): text for q, text in zip(batch, texts, strict=True)})
                tracker.advance(len(batch))
    return done


def _check_origin(context: Context, trained_from: dict[str, Any]) -> None:
    own = {name: value for name, value in context.identity.items() if name != "suites"}
    if own != trained_from:
        raise EmtError(
            "the model to compare with is not the one that was mid-trained",
            where="retain.model",
            remedy="leave `model` out: it is the recipe's backbone then",
        )
