"""Scores of measures that run a model over images and text: windows of rows, batches by length, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np

from emt_core.encoders.batches import expected_length, windows
from emt_core.index import Index, SourceRange
from emt_core.sample import Sample

Batch = Callable[[SourceRange, Sequence[Sample]], np.ndarray]


def score_windows(
    index: Index, score: Batch, *, start: int, batch_size: int, max_images: int, max_text_tokens: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float32 scores) from row `start` on, a window of a source at a time (a commit ends with one).

    score: a source and some of its samples -> float32 [n], NaN where there is none. Batches depend on the source and
    the batch size alone, so a resumed run gives the same numbers.
    """
    for source in index.sources:
        first = max(start, source.start)
        if first >= source.stop:
            continue
        samples = (sample for _, sample in index.iterate(first, source.stop))
        for window in windows(source, first, batch_size):
            rows = list(islice(samples, len(window)))
            length = [expected_length(s, "full", max_images, max_text_tokens) for s in rows]
            order = sorted(range(len(rows)), key=lambda i: (length[i], i))
            found = np.full(len(rows), np.nan, np.float32)
            for at in range(0, len(rows), batch_size):
                places = order[at : at + batch_size]
                found[places] = score(source, [rows[place] for place in places])
            yield window.start, found
