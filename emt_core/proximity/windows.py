"""Scores of measures that run a model over images and text: windows of rows, batches by length, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from emt_core.data.index import SourceRange
from emt_core.data.sample import Sample
from emt_core.models.encoders.batches import Halving, expected_length, windows
from emt_core.models.encoders.reuse import source_config
from emt_core.models.encoders.streamed import StreamedImages
from emt_core.proximity.base import Inputs

if TYPE_CHECKING:
    from PIL import Image

Item = TypeVar("Item")


class NoScore(Exception):
    """A sample that this measure can say nothing of: a reason to count it under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def score_windows(
    inputs: Inputs,
    prepare: Callable[[SourceRange, Sample, list[Image.Image]], Item],
    score: Callable[[Sequence[Item]], np.ndarray],
    *,
    start: int,
    max_images: int,
    max_text_tokens: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float32 scores) from row `start` on, a window of a source at a time (a commit ends with one).

    prepare: a sample and its first `max_images` images, decoded -> what the model takes; raises NoScore. score: such
    items -> float [n]; where it runs out of memory, it gets fewer at once. Rows without a score are NaN, and their
    reasons go to `inputs.no_score`. Batches depend on the source and the batch size alone, so a resumed run gives the
    same numbers; another batch size, or one that was halved, gives them to rounding.
    """
    batch_size = inputs.runtime.batch
    halving = Halving(
        score, inputs.progress, batch_size, what="the measure", remedy="lower measure.max_images"
    )
    for source in inputs.index.sources:
        first = max(start, source.start)
        if first >= source.stop:
            continue
        samples = (sample for _, sample in inputs.index.iterate(first, source.stop))
        streamed = StreamedImages(inputs.index, source)
        for window in windows(source, first, batch_size):
            rows = list(islice(samples, len(window)))
            images = [streamed.of(sample) for sample in rows]  # in row order: a stream is met once
            length = [expected_length(s, "full", max_images, max_text_tokens) for s in rows]
            order = sorted(range(len(rows)), key=lambda i: (length[i], i))
            found = np.full(len(rows), np.nan, np.float32)
            for at in range(0, len(rows), batch_size):
                places, items = [], []
                for place in order[at : at + batch_size]:
                    try:
                        shown = decoded(inputs, source, rows[place], max_images, images[place])
                        items.append(prepare(source, rows[place], shown))
                    except NoScore as problem:
                        inputs.no_score(window.start + place, problem.reason)
                    else:
                        places.append(place)
                if items:
                    found[places] = np.concatenate(halving.parts(items))
            yield window.start, found


def decoded(
    inputs: Inputs,
    source: SourceRange,
    sample: Sample,
    max_images: int,
    streamed: list[Any] | None = None,
) -> list[Image.Image]:
    """The first `max_images` images of a sample. Raises NoScore with the reason of the first that cannot be had.

    streamed: the sample's images where its source is a stream, which `open_images` cannot read.
    """
    from emt_core.data.images.decode import ImageProblem, open_images

    if streamed is None:
        bound = source_config(inputs.index, source)["max_pixels"]
        streamed = list(open_images(sample.images[:max_images], source.root, bound))
    found = streamed[:max_images]
    for image in found:
        if isinstance(image, ImageProblem):
            raise NoScore(image.reason)
    return found
