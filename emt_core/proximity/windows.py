"""Scores of measures that run a model over images and text: batches by length, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from emt_core.data.index import SourceRange
from emt_core.data.sample import Sample
from emt_core.models.encoders.batches import expected_length, windows
from emt_core.models.halving import Halving
from emt_core.models.images import StreamedImages, decoded_images
from emt_core.models.prepared import Refused
from emt_core.models.refusals import RefusedShare
from emt_core.proximity.base import Inputs

if TYPE_CHECKING:
    from PIL import Image

Item = TypeVar("Item")


def score_windows(
    inputs: Inputs,
    prepare: Callable[[SourceRange, Sample, list[Image.Image]], Item],
    score: Callable[[Sequence[Item]], np.ndarray],
    start: int,
    stop: int,
    *,
    max_images: int,
    cutoff: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float32 scores) of rows [start, stop), a window of a source at a time.

    prepare: a sample and its first `max_images` images -> what the model takes; raises Refused.
    score: such items -> float [n]; where it runs out of memory, it gets fewer at once. cutoff:
    tokens beyond which a text makes no batch longer. Rows without a score are NaN, and their
    reasons go to `inputs.no_score`.

    Batches depend on the source and the batch size alone, so a resumed run gives the same numbers;
    another batch size, or one that was halved, gives them to rounding.
    """
    size = inputs.runtime.batch
    halving = Halving(
        score, inputs.progress.say, size, what="the measure", remedy="lower measure.max_images"
    )
    refusals = RefusedShare()
    for source in inputs.index.sources:
        first = max(start, source.start)
        last = min(stop, source.stop)
        if first >= last:
            continue
        samples = (sample for _, sample in inputs.index.iterate(first, last))
        streamed = StreamedImages(inputs.index, source)
        for window in windows(replace(source, stop=last), first, size):
            rows = list(islice(samples, len(window)))
            seen = [streamed.of(sample) for sample in rows]  # in row order: a stream is met once
            length = [expected_length(sample, "full", max_images, cutoff) for sample in rows]
            order = sorted(range(len(rows)), key=lambda place: (length[place], place))
            scores = np.full(len(rows), np.nan, np.float32)
            for at in range(0, len(rows), size):
                items: dict[int, Item] = {}
                for place in order[at : at + size]:
                    sample = rows[place]
                    try:
                        images = decoded_images(
                            sample, source.root, source.max_pixels, max_images, seen[place]
                        )
                        items[place] = prepare(source, sample, images)
                        problem = None
                    except Refused as refused:
                        problem = refused
                        inputs.no_score(window.start + place, problem.reason)
                    if sample.images:
                        refusals.count(source.name, problem)
                if items:
                    scores[list(items)] = np.concatenate(halving.parts(list(items.values())))
            yield window.start, scores
