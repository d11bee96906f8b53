"""embed: frozen-encoder features for every row of the index (method section 2).

features.lance   vector float16 [dim], status; row i = index row i
thumbs.lance     row, webp; only for sources without random access
problems.jsonl   {"row", "source", "status", "detail"} a line: rows with images but no vector
arithmetic.json  dtype, device (models/device.py)

Rows that an earlier artifact has embedded with the same encoder and settings are copied. Commits
happen at the end of a window (4 batches), once `runtime.commit_rows` rows or COMMIT_SECONDS of work
have gathered: a kill costs that much and no more. After a resume the arithmetic is the same, so on
one torch thread the store is equal bit by bit; on several, or where memory ran out and batches were
halved, it is equal to rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from emt_core.data.features import as_matrix
from emt_core.data.index import Index, SourceRange
from emt_core.errors import EmtError
from emt_core.models.device import Arithmetic, require_here, settled_arithmetic
from emt_core.models.encoders import build_encoder
from emt_core.models.encoders.batches import shards_of
from emt_core.models.encoders.embedding import Embedding, rows_left
from emt_core.models.encoders.feature_writer import FeatureWriter, ShardWriter, read_problems
from emt_core.models.encoders.reuse import Earlier, find_earlier
from emt_core.models.weights import parameters_of
from emt_core.models.workers import start_server
from emt_core.recipe.embed import EmbedConfig
from emt_core.run.engines.base import WORKERS
from emt_core.run.host import threads_beside
from emt_core.run.shards import SHARDS, Shard, done_shards, pieces
from emt_core.run.stage import Context, Outcome
from emt_core.workspace.files import read_json_if_there, write_json
from emt_core.workspace.progress import Tracker
from emt_core.workspace.table import Table

VERSION = 2
DEVICE = True
IDENTITY_REPLACES = ("model", "revision")

COMMIT_SECONDS = 30.0
"""Work that a kill may cost, where a window is shorter; it grows with the run
(table.PATIENT_FOR_S).
"""

ENCODER = "encoder.json"
"""What the encoder says of itself, for a run that finds all rows done and loads none."""

INLINE_ROWS, INLINE_ROWS_CPU = 1_000, 10_000
"""A group of fewer rows is prepared in the main process. Workers import torch and transformers,
about ten CPU seconds, which they have to win back; beside a model on the CPU, which wants the same
cores, they win little (docs/encoders.md).
"""


def identity(config: EmbedConfig, base: Path) -> dict[str, Any]:
    """What the model is, whatever it is called (see models/identity.py)."""
    if config.encoder == "fake":
        return {}
    if config.encoder == "clip":
        from emt_core.models.encoders.clip import clip_identity

        return clip_identity(config.model, base)
    from emt_core.models.identity import model_identity

    return model_identity(config.model, config.revision, base)


def run(context: Context) -> Outcome:
    config = context.config
    assert isinstance(config, EmbedConfig)
    index = Index(context.parents["sources"])
    arithmetic = _arithmetic(context)
    writer = FeatureWriter(
        context.out, commit_rows=context.runtime.commit_rows, commit_seconds=COMMIT_SECONDS
    )
    earlier = _earlier(context, index, arithmetic)
    done = done_shards(context.out, start=writer.rows)
    parts = [
        part
        for source in index.sources
        for part in _parts(source, earlier[source.name], done, writer.rows)
    ]
    # rows are written in order: neighbors that are embedded here share their processes
    groups = [(how, list(group)) for how, group in groupby(parts, key=lambda part: part.how)]
    own = [[part.source for part in group] for how, group in groups if how == "embed"]
    reused = Counter[str]()
    metrics: dict[str, Any] = {}
    with ExitStack() as stack:
        progress = context.progress.track("embedding", index.rows, done=writer.rows)
        tracker = stack.enter_context(progress)
        embedding = None
        if own:
            embedding = _start(context, arithmetic, index, stack, own, writer.rows)
        for how, group in groups:
            if how == "embed":
                assert embedding is not None
                embedding.embed([part.source for part in group], writer, tracker.advance)
                continue
            for part in group:
                if part.earlier is not None:
                    copied = _copy(part.earlier, part.source, writer, tracker)
                    reused[part.source.name] += copied
                else:
                    writer.take_over(part.shards)
                    tracker.advance(sum(shard.rows for shard in part.shards))
        writer.commit()
        if embedding is not None:
            metrics |= embedding.metrics()
    described = read_json_if_there(context.out / ENCODER)
    metrics |= {"encoder": described or _described_before(earlier.values())}
    metrics |= _count(index, writer.features, config, reused)
    if not metrics["ok"]:
        writer.discard()  # else a second run would find every row done and fail again
        reasons = [f"{reason} {count:,}" for reason, count in metrics["statuses"].items()]
        raise EmtError(
            f"not one of {index.rows:,} rows has a vector ({', '.join(reasons)})",
            where=index.artifact.path,
            remedy="check the images' place and the encoder; "
            "`emt sources RECIPE` shows what is rejected",
        )
    return Outcome(rows=index.rows, metrics=metrics, scratch=(ENCODER, SHARDS, WORKERS))


def shards(context: Context) -> list[Shard]:
    """Rows that workers may embed: those of no earlier artifact and of no stream."""
    index = Index(context.parents["sources"])
    earlier = _earlier(context, index, _arithmetic(context))
    committed = Table(context.out / "features.lance").rows
    return [
        shard
        for source in index.sources
        if earlier[source.name] is None
        for shard in shards_of(index, source, context.runtime)
        if shard.start >= committed
    ]


@contextmanager
def open_worker(context: Context) -> Iterator[Callable[[Shard], None]]:
    """The encoder loaded once; then a call makes one shard."""
    index = Index(context.parents["sources"])
    with ExitStack() as stack:
        embedding = _start(context, _arithmetic(context), index, stack)

        def make(shard: Shard) -> None:
            source = next(s for s in index.sources if s.start <= shard.start < s.stop)
            writer = ShardWriter(context.out, shard)
            embedding.embed([replace(source, stop=shard.stop)], writer, lambda _: None)
            writer.finish()

        yield make


def _arithmetic(context: Context) -> Arithmetic:
    """Settled by whoever comes first: the process that runs the stage, before any worker."""
    config = context.config
    assert isinstance(config, EmbedConfig)
    fake = config.encoder == "fake"
    return settled_arithmetic(
        context.out,
        "float32" if fake else config.precision,
        "cpu" if fake else context.runtime.device,
        parameters=parameters_of(config.model or "", config.revision, context.base),
        on_gpu_elsewhere=context.runtime.workers_have_gpus and not fake,
    )


def _earlier(
    context: Context, index: Index, arithmetic: Arithmetic
) -> Mapping[str, Earlier | None]:
    """For each source: where its rows were embedded before."""
    facts = {
        "version": VERSION,
        "identity": context.identity,
        "config": context.config.model_dump(mode="json", exclude=set(IDENTITY_REPLACES)),
        "arithmetic": arithmetic,
    }
    return {s.name: find_earlier(context.workspace, index, s, facts) for s in index.sources}


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Neighboring rows of a source, and where their vectors come from."""

    source: SourceRange
    """Its `stop` is the part's; where it starts, windows are counted from."""

    how: Literal["embed", "copy", "take"]
    earlier: Earlier | None = None
    shards: tuple[Shard, ...] = ()


def _parts(
    source: SourceRange, earlier: Earlier | None, done: Sequence[Shard], at: int
) -> Iterator[_Part]:
    """What is left of a source from row `at` on. done: shards from there on, in row order."""
    if source.stop <= at:
        return
    if earlier is not None:
        yield _Part(source=source, how="copy", earlier=earlier)
        return
    for piece, made in pieces(done, max(at, source.start), source.stop):
        if made:
            yield _Part(source=source, how="take", shards=made)
        else:
            yield _Part(source=replace(source, stop=piece.stop), how="embed")


def _start(
    context: Context,
    arithmetic: Arithmetic,
    index: Index,
    stack: ExitStack,
    own: Sequence[Sequence[SourceRange]] = (),
    done: int = 0,
) -> Embedding:
    """The encoder loaded. own: the groups of sources to embed; workers start anew for each.

    What workers need is imported while the model loads, where a group is worth any.
    """
    config = context.config
    assert isinstance(config, EmbedConfig)
    encoder = build_encoder(config, context.base, context.identity.get("revision"))
    if config.encoder != "fake":
        require_here(arithmetic, context.runtime.device, context.out)
    on_cpu = config.encoder != "fake" and arithmetic.device == "cpu"
    inline_rows = INLINE_ROWS_CPU if on_cpu else INLINE_ROWS
    if context.runtime.workers and any(rows_left(group, done) >= inline_rows for group in own):
        start_server(encoder.preload)
    encoder.load(context.runtime.device, arithmetic.dtype)
    write_json(context.out / ENCODER, encoder.describe())
    stack.enter_context(_model_threads(context.runtime.workers))
    return Embedding(
        encoder,
        context.runtime.workers,
        inline_rows=inline_rows,
        config=config,
        runtime=context.runtime,
        index=index,
        say=context.progress.say,
    )


@contextmanager
def _model_threads(workers: int) -> Iterator[None]:
    """Limit the model to the cores that decoding leaves.

    Two threads on two cores with two decoding workers took 1.6 times the CPU time of one and were
    no quicker. Never more than torch was given (OMP_NUM_THREADS). By the settings, not by the
    workers at work: how products are split decides their rounding.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads_beside(workers, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _copy(found: Earlier, source: SourceRange, writer: FeatureWriter, tracker: Tracker) -> int:
    """Copy a source's rows, from the writer's row on, of an earlier artifact; returns how many."""
    shift = found.start - source.start
    begin = writer.rows + shift
    stop = source.stop + shift
    data = found.artifact.data
    problems = [
        problem | {"row": problem["row"] - shift, "source": source.name}
        for problem in read_problems(data / "problems.jsonl", begin, stop)
    ]
    thumbs = Table(data / "thumbs.lance")
    at = begin
    for batch in Table(data / "features.lance").scan(["vector", "status"], start=begin, stop=stop):
        end = at + batch.num_rows
        writer.add(
            as_matrix(batch.column(0)),
            batch.column(1).to_pylist(),
            problems=[problem for problem in problems if at <= problem["row"] + shift < end],
            thumbs=[(row - shift, webp) for row, webp in _thumbs(thumbs, at, end)],
        )
        at = end
        # copied rows say nothing about how long the others take
        tracker.resumed_at += batch.num_rows
        tracker.advance(batch.num_rows)
    return at - begin


def _thumbs(table: Table, start: int, stop: int) -> list[tuple[int, bytes]]:
    if not table.exists():
        return []
    rows = table.column("row")
    wanted = ((rows >= start) & (rows < stop)).nonzero()[0]
    found = table.take(wanted)
    return list(zip(found.column("row").to_pylist(), found.column("webp").to_pylist(), strict=True))


def _described_before(earlier: Iterable[Earlier | None]) -> dict[str, Any]:
    """The encoder that the first reused artifact describes, where nothing had to be embedded."""
    for found in earlier:
        if found is not None:
            return found.artifact.metrics["encoder"]
    return {}


def _count(
    index: Index, features: Table, config: EmbedConfig, reused: Counter[str]
) -> dict[str, Any]:
    """Counts over the whole store, whichever run wrote it."""
    sources = {}
    total = Counter[str]()
    for source in index.sources:
        statuses = Counter[str]()
        beyond = 0
        for batch in features.scan(["status"], start=source.start, stop=source.stop):
            for item in batch.column(0).value_counts().to_pylist():
                statuses[item["values"]] += item["counts"]
        for batch in index.table.scan(["n_images"], start=source.start, stop=source.stop):
            images = batch.column(0).to_numpy()
            beyond += int((images - config.max_images).clip(min=0).sum())
        sources[source.name] = {
            "rows": source.rows,
            "ok": statuses[""],
            "statuses": {reason: count for reason, count in sorted(statuses.items()) if reason},
            "images_beyond_bound": beyond,
            "reused": reused[source.name],
        }
        total += statuses
    return {
        "dim": features.schema.field("vector").type.list_size,
        "ok": total[""],
        "statuses": {reason: count for reason, count in sorted(total.items()) if reason},
        "images_beyond_bound": sum(s["images_beyond_bound"] for s in sources.values()),
        "reused": sum(reused.values()),
        "sources": sources,
    }
