"""The loop of the embed stage: read, prepare, encode, write, window by window."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from emt_core.data.index import Index, SourceRange
from emt_core.data.sample import Sample
from emt_core.errors import EmtError
from emt_core.models.encoders.base import Encoder
from emt_core.models.encoders.batches import Window, expected_length, windows
from emt_core.models.encoders.feature_writer import Writer, webp_thumbnail
from emt_core.models.encoders.preparing import Job, Ready, prepared_batches
from emt_core.models.halving import Halving
from emt_core.models.images import StreamedImages
from emt_core.models.prepared import Refused
from emt_core.models.refusals import BY_PROCESSOR, RefusedShare
from emt_core.recipe.base import Runtime
from emt_core.recipe.embed import EmbedConfig

NON_FINITE_ROWS = 64
"""An encoder whose first so many vectors are all NaN or infinite is stopped at once."""


class Embedding:
    """Embeds sources with a loaded encoder, and counts what that took."""

    def __init__(
        self,
        encoder: Encoder,
        workers: int,
        *,
        inline_rows: int,
        config: EmbedConfig,
        runtime: Runtime,
        index: Index,
        say: Callable[[str], None],
    ) -> None:
        """workers: processes that decode and prepare; 0: this one does, and so it does where a
        call of `embed` has fewer than `inline_rows` rows."""
        self.encoder = encoder
        self.workers = workers
        self.inline_rows = inline_rows
        self.config = config
        self.index = index
        self.batch_size = runtime.batch
        self.halving = Halving(
            encoder.encode,
            say,
            runtime.batch,
            what="the encoder",
            remedy="use a device with more memory, fewer embed.max_images or precision bfloat16",
        )
        self.refusals = RefusedShare()
        self.most_workers = 0
        self.rows = 0
        self.vectors = 0
        self.non_finite = 0
        self.seconds = 0.0
        self.model_seconds = 0.0

    def embed(
        self, sources: Sequence[SourceRange], writer: Writer, advance: Callable[[int], None]
    ) -> None:
        """Every row of these neighboring sources that the writer lacks. advance: gets rows done."""
        began = time.monotonic()
        owners: deque[_Filling] = deque()
        batches = self._batches(sources, writer.rows, owners)
        workers = self.workers if rows_left(sources, writer.rows) >= self.inline_rows else 0
        self.most_workers = max(self.most_workers, workers)
        for ready in prepared_batches(self.encoder, batches, workers):
            filling = owners.popleft()
            self._encode(ready, filling)
            if filling.missing == 0:
                filling.write(writer)
            self.rows += len(ready)
            advance(len(ready))
        self.seconds += time.monotonic() - began

    def _batches(
        self, sources: Sequence[SourceRange], first: int, owners: deque[_Filling]
    ) -> Iterator[list[Job]]:
        """Batches in a fixed order; the window that a batch's rows belong to goes to `owners`."""
        for source in sources:
            rows = self.index.iterate(max(first, source.start), source.stop)
            streamed = StreamedImages(self.index, source)
            for window in windows(source, first, self.batch_size):
                filling = _Filling(window, self.encoder.dim)
                places = range(window.start, window.stop)
                jobs = [
                    self._job(row, sample, source, streamed)
                    for row, (_, sample) in zip(places, islice(rows, len(window)), strict=True)
                ]
                filling.note_streamed(jobs)
                jobs.sort(key=lambda job: (self._length(job), job.row))
                for start in range(0, len(jobs), self.batch_size):
                    owners.append(filling)
                    yield jobs[start : start + self.batch_size]

    def _job(self, row: int, sample: Sample, source: SourceRange, streamed: StreamedImages) -> Job:
        return Job(
            row=row,
            sample=sample,
            root=source.root,
            max_pixels=source.max_pixels,
            max_images=self.config.max_images,
            text=self.config.pool_text if sample.role == "pool" else self.config.robot_text,
            images=streamed.of(sample),
        )

    def _length(self, job: Job) -> tuple[int, int]:
        return expected_length(job.sample, job.text, job.max_images, self.config.cutoff)

    def _encode(self, ready: Sequence[Ready], filling: _Filling) -> None:
        good: list[int] = []
        items = []
        for item in ready:
            refused = Refused(item.status, item.detail) if item.prepared is None else None
            if item.status in BY_PROCESSOR or item.prepared is not None:
                seen = item.prepared.vision if item.prepared else item.status == "image_refused"
                self.refusals.count(filling.window.source.name, refused, pictures=bool(seen))
            if item.prepared is None:
                filling.fail(item.row, item.status, item.detail)
            else:
                good.append(item.row)
                items.append(item.prepared)
        began = time.monotonic()
        parts = self.halving.parts(items) or [np.empty((0, self.encoder.dim), np.float32)]
        self.model_seconds += time.monotonic() - began
        with np.errstate(over="ignore"):  # beyond float16's 65,504: infinite, found right below
            halves = np.concatenate(parts).astype(np.float16)
        for row, vector in zip(good, halves, strict=True):
            if np.isfinite(vector).all():
                filling.vectors[row - filling.window.start] = vector
            else:
                self.non_finite += 1
                detail = "the encoder gave NaN, infinity or more than 65,504"
                filling.fail(row, "non_finite_feature", detail)
        filling.missing -= len(ready)
        self.vectors += len(good)
        if self.vectors >= NON_FINITE_ROWS and self.non_finite == self.vectors:
            raise EmtError(
                "the encoder gives NaN or infinity for every one of the first"
                f" {self.vectors} samples",
                where=self.config.model,
                remedy="set embed.precision to float32, or check the model's weights",
            )

    def metrics(self) -> dict[str, Any]:
        """Of this process alone: what an interrupted one did before is not in the rates."""
        return {
            "embedded_rows": self.rows,
            "samples_per_second": round(self.rows / self.seconds, 2) if self.seconds else None,
            "wall_seconds": round(self.seconds, 3),
            "model_seconds": round(self.model_seconds, 3),
            "model_share": round(self.model_seconds / self.seconds, 3) if self.seconds else None,
            "batch_halvings": self.halving.halvings,
            "batch_size": self.halving.limit,
            "workers": self.most_workers,
        }


def rows_left(sources: Sequence[SourceRange], done: int) -> int:
    """How many rows of these sources come after the `done` first of the index."""
    return sum(source.stop - max(source.start, done) for source in sources)


class _Filling:
    """A window's rows while its batches come in, in any order."""

    def __init__(self, window: Window, dim: int) -> None:
        self.window = window
        self.missing = len(window)
        self.vectors = np.zeros((len(window), dim), np.float16)
        self.status = [""] * len(window)
        self.problems: list[dict[str, Any]] = []
        self.thumbs: list[tuple[int, bytes]] = []

    def fail(self, row: int, status: str, detail: str) -> None:
        self.status[row - self.window.start] = status
        if status != "text_only":  # a kind of row, no problem of it
            source = self.window.source.name
            self.problems.append({"row": row, "source": source, "status": status, "detail": detail})

    def note_streamed(self, jobs: Sequence[Job]) -> None:
        """A stream is seen once: its thumbnails are made now or never."""
        for job in jobs:
            first = job.images[0] if job.images else None
            if first is not None and not isinstance(first, Exception):
                self.thumbs.append((job.row, webp_thumbnail(first)))

    def write(self, writer: Writer) -> None:
        self.problems.sort(key=lambda problem: problem["row"])
        writer.add(self.vectors, self.status, problems=self.problems, thumbs=self.thumbs)
