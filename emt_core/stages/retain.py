"""retain: what the VLM keeps. The mid-trained model beside its origin, same questions (Table 7).

answers.parquet    suite category question answer origin_answer midtrained_answer origin_correct
                   midtrained_correct
results.json       {suite: {"all" | category: {"n", "origin": {"rate", "low", "high"},
                   "midtrained": {...}}}}

Answers are greedy. A shard (run/shards.py) is a batch of questions to one of the two: what a kill
costs, with one process or several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError, all_of
from emt_core.evaluation.questions.retention import (
    SIDES,
    load_suites,
    read_answers,
    shards_of,
    write_results,
)
from emt_core.recipe.midtrain import interpolated_folder
from emt_core.recipe.retain import QuestionFile, RetainConfig
from emt_core.run.engines.base import WORKERS
from emt_core.run.plan import Instance
from emt_core.run.shards import SHARDS, Shard, mark_done
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
    suites = _checked_suites(context)
    total = sum(map(len, suites.values()))
    waiting = shards(context)
    if waiting:
        done = 2 * total - sum(shard.rows for shard in waiting)
        progress = context.progress.track("asking both", 2 * total, done=done, unit="questions")
        with progress as tracker, open_worker(context) as make:
            for shard in waiting:
                make(shard)
                tracker.advance(shard.rows)
    results = write_results(context.out, suites, read_answers(context.out))
    rates = {
        suite: {side: facts["all"][side]["rate"] for side in SIDES} | {"n": facts["all"]["n"]}
        for suite, facts in results.items()
    }
    return Outcome(rows=total, metrics={"suites": rates}, scratch=(SHARDS, WORKERS))


def shards(context: Context) -> list[Shard]:
    """Batches of questions without an answer yet."""
    answered = read_answers(context.out)
    return [
        shard
        for shard in shards_of(_checked_suites(context), context.runtime.batch)
        if not all(row in answered for row in range(shard.start, shard.stop))
    ]


@contextmanager
def open_worker(context: Context) -> Iterator[Callable[[Shard], None]]:
    """A call asks one shard's questions; the model is kept until the other one is asked."""
    from emt_core.evaluation.questions.answering import Answerer
    from emt_core.models.device import require_here, settled_arithmetic
    from emt_core.models.weights import parameters_of

    config, runtime = context.config, context.runtime
    assert isinstance(config, RetainConfig)
    suites = _checked_suites(context)
    questions = [question for asked in suites.values() for question in asked]
    origin, revision = _model(context, SIDES[0])
    settled = settled_arithmetic(
        context.out,
        config.precision,
        runtime.device,
        parameters=parameters_of(origin, revision, context.base),
        on_gpu_elsewhere=runtime.workers_have_gpus,
    )
    require_here(settled, runtime.device, context.out)
    loaded: dict[str, Answerer] = {}

    def make(shard: Shard) -> None:
        place, start = divmod(shard.start, len(questions))
        side = SIDES[place]
        if side not in loaded:
            loaded.clear()  # never two in memory
            model, revision = _model(context, side)
            loaded[side] = Answerer(
                model,
                revision=revision,
                device=runtime.device,
                precision=settled.dtype,
                max_new_tokens=config.max_new_tokens,
                max_image_pixels=config.max_image_pixels,
            )
        answers = loaded[side].answers(questions[start : start + shard.rows])
        mark_done(context.out, shard, {"answers": answers})

    yield make


def _checked_suites(context: Context) -> dict[str, list[Question]]:
    config = context.config
    assert isinstance(config, RetainConfig)
    _check_origin(context, context.parents["midtrain"].manifest["identity"])
    return load_suites(config, context.base)


def _model(context: Context, side: str) -> tuple[str, str | None]:
    """Folder or hub name of a side's model, and its revision."""
    from emt_core.models.identity import locate_model

    config = context.config
    assert isinstance(config, RetainConfig)
    if side == "midtrained":
        folder = interpolated_folder(config.interpolate)
        return str(context.parents["midtrain"].data / folder), None
    revision = context.identity.get("revision") or config.revision
    return str(locate_model(config.model, context.base)), revision


def _check_origin(context: Context, trained_from: dict[str, Any]) -> None:
    own = {name: value for name, value in context.identity.items() if name != "suites"}
    if own != trained_from:
        raise EmtError(
            "the model to compare with is not the one that was mid-trained",
            where="retain.model",
            remedy="leave `model` out: it is the recipe's backbone then",
        )
