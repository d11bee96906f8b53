"""Checks the image headers of many samples, in worker processes where that pays; keeps order."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from emt_core.data.images.decode import check_image
from emt_core.data.sample import ImageRef, Reject, Sample
from emt_core.errors import EmtError
from emt_core.workspace.process import live_and_die_with_parent

BATCH_ROWS = 512
INLINE_ROWS = 8_192
"""Rows checked before workers are started: two seconds of work; starting them costs one."""

Problem = tuple[str, str] | None


class ImageChecker:
    """A with-block that owns the worker processes. workers=0: all in this process, same result."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.inline_left = INLINE_ROWS
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> ImageChecker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def checked(
        self, rows: Iterable[Sample | Reject], root: Path, max_pixels: int
    ) -> Iterator[list[Sample | Reject]]:
        """The rows in order, in lists of at most BATCH_ROWS; a bad image makes a Reject."""
        waiting: deque[tuple[list[Sample | Reject], Future[list[Problem]]]] = deque()
        stream = iter(rows)
        try:
            while batch := list(islice(stream, BATCH_ROWS)):
                if self.workers == 0 or self.inline_left > 0:
                    self.inline_left -= len(batch)
                    yield _judged(batch, check_batch(_refs(batch), root, max_pixels))
                    continue
                waiting.append((batch, self._submit(batch, root, max_pixels)))
                if len(waiting) > 2 * self.workers:
                    yield _settled(*waiting.popleft())
            while waiting:
                yield _settled(*waiting.popleft())
        except BrokenProcessPool as error:
            raise EmtError(
                "a worker process that looks at images died",
                where=root,
                remedy="memory ran out (lower runtime.workers), or a script of your own lacks its "
                "`if __name__ == '__main__':`; run again: finished rows are kept",
            ) from error

    def _submit(
        self, batch: Sequence[Sample | Reject], root: Path, max_pixels: int
    ) -> Future[list[Problem]]:
        if self._pool is None:
            # spawn: this process has threads (Lance, the meter), and a forked child would inherit
            # their locks
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=live_and_die_with_parent
            )
        return self._pool.submit(check_batch, _refs(batch), root, max_pixels)


def check_batch(refs: Sequence[tuple[ImageRef, ...]], root: Path, max_pixels: int) -> list[Problem]:
    """The first problem of each sample's images, or None."""
    found: list[Problem] = []
    for images in refs:
        problems = (check_image(ref, root, max_pixels) for ref in images)
        found.append(next((problem for problem in problems if problem is not None), None))
    return found


def _refs(batch: Sequence[Sample | Reject]) -> list[tuple[ImageRef, ...]]:
    return [row.images if isinstance(row, Sample) else () for row in batch]


def _settled(
    batch: Sequence[Sample | Reject], problems: Future[list[Problem]]
) -> list[Sample | Reject]:
    return _judged(batch, problems.result())


def _judged(batch: Sequence[Sample | Reject], problems: Sequence[Problem]) -> list[Sample | Reject]:
    return [
        _reject(row, problem) if problem else row
        for row, problem in zip(batch, problems, strict=True)
    ]


def _reject(row: Sample | Reject, problem: tuple[str, str]) -> Reject:
    reason, detail = problem
    return Reject(source=row.source, row=row.row, reason=reason, detail=detail, own_id=row.own_id)
