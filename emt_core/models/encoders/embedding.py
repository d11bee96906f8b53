"""The loop of the embed stage: read, prepare in workers, encode, hand over to the writer, window by window."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from emt_core.data.index import Index, SourceRange
from emt_core.data.sample import Sample
from emt_core.errors import EmtError
from emt_core.models.encoders.base import Encoder
from emt_core.models.encoders.batches import HalvingEncoder, Window, expected_length, windows
from emt_core.models.encoders.feature_writer import FeatureWriter, webp_thumbnail
from emt_core.models.encoders.prefetch import Job, Preparer, Ready
from emt_core.models.encoders.reuse import source_config
from emt_core.models.encoders.streamed import StreamedImages
from emt_core.recipe.base import Runtime
from emt_core.recipe.embed import EmbedConfig
from emt_core.workspace.progress import Progress, Tracker

NON_FINITE_ROWS = 64
"""An encoder whose first so many vectors are all NaN or infinite is stopped at once."""


class Embedding:
    """Embeds sources with a loaded encoder and a started preparer, and counts what that took."""

    def __init__(
        self,
        encoder: Encoder,
        preparer: Preparer,
        *,
        config: EmbedConfig,
        runtime: Runtime,
        index: Index,
        writer: FeatureWriter,
        progress: Progress,
    ) -> None:
        self.encoder, self.preparer = encoder, preparer
        self.config, self.index, self.writer = config, index, writer
        self.batch_size = runtime.batch
        self.halving = HalvingEncoder(encoder, progress, runtime.batch)
        self.dim = encoder.dim
        self.rows = self.vectors = self.non_finite = 0
        self.seconds = self.model_seconds = 0.0

    def embed(self, sources: Sequence[SourceRange], tracker: Tracker) -> None:
        """Every row of these neighbouring sources that the writer lacks."""
        began = time.monotonic()
        owners: deque[_Filling] = deque()
        for ready in self.preparer.prepared(self._batches(sources, owners)):
            filling = owners.popleft()
            self._encode(ready, filling)
            if filling.complete:
                self.writer.add(
                    filling.vectors,
                    filling.status,
                    problems=filling.problems,
                    thumbs=filling.thumbs,
                )
            self.rows += len(ready)
            tracker.advance(len(ready))
        self.seconds += time.monotonic() - began

    def _batches(
        self, sources: Sequence[SourceRange], owners: deque[_Filling]
    ) -> Iterator[list[Job]]:
        """Batches in a fixed order; beside each, the window that its rows fill goes to `owners`."""
        first = self.writer.rows
        for source in sources:
            samples = (
                sample for _, sample in self.index.iterate(max(first, source.start), source.stop)
            )
            streamed = StreamedImages(self.index, source)
            for window in windows(source, first, self.batch_size):
                filling = _Filling(window, self.dim)
                jobs = [
                    self._job(row, sample, source, streamed)
                    for row, sample in zip(
                        range(window.start, window.stop), islice(samples, len(window)), strict=True
                    )
                ]
                filling.note_streamed(jobs)
                jobs.sort(key=lambda job: (self._length(job), job.row))
                for at in range(0, len(jobs), self.batch_size):
                    owners.append(filling)
                    yield jobs[at : at + self.batch_size]

    def _job(self, row: int, sample: Sample, source: SourceRange, streamed: StreamedImages) -> Job:
        return Job(
            row=row,
            sample=sample,
            root=source.root,
            max_pixels=source_config(self.index, source)["max_pixels"],
            max_images=self.config.max_images,
            text=self.config.pool_text if sample.role == "pool" else self.config.robot_text,
            images=streamed.of(sample),
        )

    def _length(self, job: Job) -> tuple[int, int]:
        return expected_length(job.sample, job.text, job.max_images, self.config.max_text_tokens)

    def _encode(self, ready: Sequence[Ready], filling: _Filling) -> None:
        good = [item for item in ready if item.prepared is not None]
        began = time.monotonic()
        vectors = self.halving.encode([item.prepared for item in good if item.prepared is not None])
        self.model_seconds += time.monotonic() - began
        with np.errstate(over="ignore"):  # beyond float16's 65,504: infinite, found right below
            halves = vectors.astype(np.float16)
        finite = np.asarray(np.isfinite(halves).all(axis=1))
        for item, vector, fine in zip(good, halves, finite, strict=True):
            if fine:
                filling.put(item.row, vector)
            else:
                filling.fail(
                    item.row,
                    "non_finite_feature",
                    "the encoder gave NaN, infinity or more than 65,504",
                )
        for item in ready:
            if item.prepared is None:
                filling.fail(item.row, item.status, item.detail)
        filling.filled += len(ready)
        self.vectors += len(good)
        self.non_finite += int((~finite).sum())
        if self.vectors >= NON_FINITE_ROWS and self.non_finite == self.vectors:
            raise EmtError(
                f"the encoder gives NaN or infinity for every one of the first {self.vectors} samples",
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
            "workers": self.preparer.workers,
        }


class _Filling:
    """A window's rows while its batches come in, in any order."""

    def __init__(self, window: Window, dim: int) -> None:
        self.window = window
        self.vectors = np.zeros((len(window), dim), np.float16)
        self.status = [""] * len(window)
        self.problems: list[dict[str, Any]] = []
        self.thumbs: list[tuple[int, bytes]] = []
        self.filled = 0

    @property
    def complete(self) -> bool:
        if self.filled == len(self.window):
            self.problems.sort(key=lambda problem: problem["row"])
            return True
        return False

    def put(self, row: int, vector: np.ndarray) -> None:
        self.vectors[row - self.window.start] = vector

    def fail(self, row: int, status: str, detail: str) -> None:
        self.status[row - self.window.start] = status
        if status != "text_only":  # a kind of row, no problem of it
            self.problems.append(
                {"row": row, "source": self.window.source.name, "status": status, "detail": detail}
            )

    def note_streamed(self, jobs: Sequence[Job]) -> None:
        """A stream is seen once: its thumbnails are made now or never."""
        for job in jobs:
            first = job.images[0] if job.images else None
            if first is not None and not isinstance(first, Exception):
                self.thumbs.append((job.row, webp_thumbnail(first)))
