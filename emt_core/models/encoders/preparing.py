"""Index rows, decoded and prepared for an encoder, in this process or in workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from emt_core.data.sample import Sample
from emt_core.models.encoders.base import Encoder
from emt_core.models.images import decoded_images
from emt_core.models.prepared import Prepared, Refused
from emt_core.models.vlm.chat import TextMode
from emt_core.models.workers import in_order

if TYPE_CHECKING:
    from PIL import Image

    from emt_core.data.images.decode import ImageProblem

CHUNK = 16
"""Samples a worker takes at once: enough to hide the way there and back, few enough to bound what
is in flight (2.4 MB a picture of 448 x 448)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One index row to prepare."""

    row: int
    sample: Sample
    root: Path
    max_pixels: int
    max_images: int
    text: TextMode
    images: Sequence[Image.Image | ImageProblem] | None = None
    """Decoded already (sources without random access), else None: they are opened here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """What became of a job: prepared, or a status with its detail."""

    row: int
    prepared: Prepared | None = None
    status: str = ""
    detail: str = ""


def prepare_job(encoder: Encoder, job: Job) -> Ready:
    """Decode and prepare one row; every problem of the row itself becomes a named status."""
    if not job.sample.images and (job.text == "none" or not encoder.takes_text_only):
        return Ready(row=job.row, status="text_only")
    try:
        images = decoded_images(
            job.sample, job.root, job.max_pixels, job.max_images, streamed=job.images
        )
        return Ready(row=job.row, prepared=encoder.prepare(job.sample, images, job.text))
    except Refused as problem:
        return Ready(row=job.row, status=problem.reason, detail=problem.detail)


def prepared_batches(
    encoder: Encoder, batches: Iterable[Sequence[Job]], workers: int
) -> Iterator[list[Ready]]:
    """Each batch prepared, in order; workers: processes, 0 for this one."""
    if not workers:
        for batch in batches:
            yield [prepare_job(encoder, job) for job in batch]
        return
    sizes: deque[int] = deque()

    def chunks() -> Iterator[Sequence[Job]]:
        for batch in batches:
            sizes.append(len(batch))
            for start in range(0, len(batch), CHUNK):
                yield batch[start : start + CHUNK]

    work = partial(_prepare_chunk, encoder)
    ready: list[Ready] = []
    for chunk in in_order(work, chunks(), workers, ahead=4, preload=encoder.preload):
        ready += chunk
        if len(ready) == sizes[0]:
            sizes.popleft()
            yield ready
            ready = []


def _prepare_chunk(encoder: Encoder, jobs: Sequence[Job]) -> list[Ready]:
    return [prepare_job(encoder, job) for job in jobs]
