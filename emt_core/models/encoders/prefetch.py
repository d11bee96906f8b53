"""Decoding and preparing in worker processes, in order, with a bounded number of samples in flight.

Workers come from a fork server, never from a plain fork: Lance and OpenMP threads do not survive one. The server
imports what the encoder's CPU half needs once, while the main process loads the model, and all workers share it.
A worker whose main process was killed ends itself.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from emt_core.data.sample import Sample
from emt_core.errors import EmtError
from emt_core.models.encoders.base import Encoder, ImageRefused, Prepared, TextMode

if TYPE_CHECKING:
    from PIL import Image

CHUNK = 16
"""Samples a worker takes at once: enough to hide the cost of the pipe, few enough to bound what is in flight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One index row to prepare."""

    row: int
    sample: Sample
    root: Path
    max_pixels: int
    max_images: int
    text: TextMode
    images: Sequence[Image.Image | Exception] | None = None
    """Decoded already (sources without random access), else None: the worker opens the references."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """What became of a job: prepared, or a status with its detail."""

    row: int
    prepared: Prepared | None = None
    status: str = ""
    detail: str = ""


def prepare_job(encoder: Encoder, job: Job) -> Ready:
    """Decode and prepare one row; every problem of the row itself becomes a named status."""
    from emt_core.data.images.decode import ImageProblem, open_images

    text_only = not job.sample.images
    if text_only and (job.text == "none" or not encoder.takes_text_only):
        return Ready(row=job.row, status="text_only")
    try:
        images: list[Image.Image] = []
        found = job.images
        if found is None:
            found = open_images(job.sample.images[: job.max_images], job.root, job.max_pixels)
        for image in found[: job.max_images]:
            if isinstance(image, Exception):
                raise image
            images.append(image)
        return Ready(row=job.row, prepared=encoder.prepare(job.sample, images, job.text))
    except ImageProblem as problem:
        return Ready(row=job.row, status=problem.reason, detail=problem.detail)
    except ImageRefused as problem:
        return Ready(row=job.row, status="image_refused", detail=str(problem))


class Preparer:
    """`prepared(batches)` gives each batch back, prepared, in order. Use as a context manager.

    workers: processes; 0 prepares in the calling process. modules: imported by the fork server ahead of time.
    """

    def __init__(self, encoder: Encoder, workers: int, modules: Sequence[str] = ()) -> None:
        self.encoder, self.workers, self.modules = encoder, workers, modules
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Preparer:
        if self.workers:
            methods = multiprocessing.get_all_start_methods()
            context = multiprocessing.get_context(
                "forkserver" if "forkserver" in methods else "spawn"
            )
            if context.get_start_method() == "forkserver":
                context.set_forkserver_preload(
                    [
                        "emt_core.models.encoders.prefetch",
                        "emt_core.data.images.decode",
                        *self.modules,
                    ]
                )
            self._pool = ProcessPoolExecutor(
                self.workers,
                mp_context=context,
                initializer=_start_worker,
                initargs=(self.encoder,),
            )
            # the first submit waits until the fork server has imported everything: meanwhile the caller loads the model
            threading.Thread(target=_warm_up, args=(self._pool, self.workers), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def prepared(self, batches: Iterable[Sequence[Job]]) -> Iterator[list[Ready]]:
        if self._pool is None:
            for batch in batches:
                yield [prepare_job(self.encoder, job) for job in batch]
            return
        pending: deque[list[Future[list[Ready]]]] = deque()
        in_flight = 0
        source = iter(batches)
        exhausted = False
        try:
            while True:
                # one batch is being encoded while the workers have the next in hand, and each a chunk besides
                while not exhausted and (len(pending) < 2 or in_flight < 2 * self.workers):
                    batch = next(source, None)
                    if batch is None:
                        exhausted = True
                        break
                    chunks = [batch[at : at + CHUNK] for at in range(0, len(batch), CHUNK)]
                    pending.append([self._pool.submit(_prepare_chunk, chunk) for chunk in chunks])
                    in_flight += len(chunks)
                if not pending:
                    return
                futures = pending.popleft()
                ready = [item for future in futures for item in future.result()]
                in_flight -= len(futures)
                yield ready
        except BrokenProcessPool as error:
            raise EmtError(
                "a decoding process ended by itself, most likely for want of memory",
                remedy="run the same command again with fewer runtime.workers or a smaller runtime.batch;"
                " finished rows are kept",
            ) from error


def _warm_up(pool: ProcessPoolExecutor, workers: int) -> None:
    with suppress(RuntimeError):  # shut down already, or a worker died: the next submit says so
        for _ in range(workers):
            pool.submit(os.getpid)


_encoder: Encoder | None = None


def _start_worker(encoder: Encoder) -> None:
    global _encoder
    _encoder = encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if "torch" in sys.modules:  # the fake encoder does without
        sys.modules["torch"].set_num_threads(1)  # the workers are the parallelism
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _prepare_chunk(jobs: Sequence[Job]) -> list[Ready]:
    assert _encoder is not None
    return [prepare_job(_encoder, job) for job in jobs]
