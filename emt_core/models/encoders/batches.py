"""Which rows share a forward pass.

Rows are cut into windows that start at their *source's* first row, and only inside a window are
rows sorted by length. So the batches, and with them the last bit of every vector, depend on the
source and the batch size alone: a run that resumes at a window's start, or one that has another
source before this one, makes the same store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emt_core.data.index import Index, SourceRange
from emt_core.data.sample import Sample
from emt_core.models.vlm.chat import TextMode
from emt_core.recipe.base import Runtime
from emt_core.run.shards import Shard, cut

BATCHES_PER_WINDOW = 4
"""More sort better by length; fewer lose less to a kill (a window is the smallest commit)."""

CHARACTERS_A_TOKEN = 4

SHARD_ROWS = 8_192
"""Of a shard, about: what the loss of a worker costs. At most `runtime.commit_rows`."""


@dataclass(frozen=True, slots=True)
class Window:
    """Index rows [start, stop) of one source."""

    source: SourceRange
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def windows(source: SourceRange, done: int, batch_size: int) -> Iterator[Window]:
    """The source's windows from row `done` on; a resumed run's first may be shorter."""
    rows = BATCHES_PER_WINDOW * batch_size
    start = max(done, source.start)
    while start < source.stop:
        past = (start - source.start) % rows
        stop = min(start - past + rows, source.stop)
        yield Window(source, start, stop)
        start = stop


def shards_of(index: Index, source: SourceRange, runtime: Runtime) -> list[Shard]:
    """A source's rows for workers, cut at windows: nobody's work changes another's batches.

    None of a stream, which one process reads from its beginning.
    """
    if index.config_of(source).get("streaming"):
        return []
    window = BATCHES_PER_WINDOW * runtime.batch
    rows = max(min(SHARD_ROWS, runtime.commit_rows) // window, 1) * window
    return list(cut(source.start, source.stop, rows))


def expected_length(
    sample: Sample, text: TextMode, max_images: int, cutoff: int
) -> tuple[int, int]:
    """What batches are sorted by, known before anything is decoded: (images, text tokens)."""
    spoken = {"none": (), "full": ("system", "user", "assistant")}.get(text, ("user",))
    characters = sum(len(turn.text) for turn in sample.turns if turn.role in spoken)
    return min(len(sample.images), max_images), min(characters // CHARACTERS_A_TOKEN, cutoff)
