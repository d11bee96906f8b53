"""Which rows share a forward pass, and what happens when memory runs out.

Rows are cut into windows that start at their *source's* first row, and only inside a window are rows sorted by length.
So the batches, and with them the last bit of every vector, depend on the source and the batch size alone: a run that
resumes at a window's start, or one that has another source before this one, makes the same store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from emt_core.data.sample import Sample
from emt_core.errors import EmtError
from emt_core.models.encoders.base import Encoder, Prepared, TextMode
from emt_core.workspace.progress import Progress

if TYPE_CHECKING:
    from emt_core.data.index import SourceRange

BATCHES_PER_WINDOW = 4
"""More sort better by length; fewer lose less to a kill (a window is the smallest commit)."""

CHARACTERS_A_TOKEN = 4
T = TypeVar("T")
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
)


@dataclass(frozen=True, slots=True)
class Window:
    """Index rows [start, stop) of one source."""

    source: SourceRange
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def windows(source: SourceRange, done: int, batch_size: int) -> Iterator[Window]:
    """The source's windows from row `done` on; the first is shorter where `done` is no window's start."""
    rows = BATCHES_PER_WINDOW * batch_size
    at = max(done, source.start)
    while at < source.stop:
        stop = min(source.start + ((at - source.start) // rows + 1) * rows, source.stop)
        yield Window(source, at, stop)
        at = stop


def expected_length(
    sample: Sample, text: TextMode, max_images: int, max_text_tokens: int
) -> tuple[int, int]:
    """What batches are sorted by, known before anything is decoded: (images, text tokens, roughly)."""
    spoken = {"none": (), "full": ("system", "user", "assistant")}.get(text, ("user",))
    characters = sum(len(turn.text) for turn in sample.turns if turn.role in spoken)
    return min(len(sample.images), max_images), min(
        characters // CHARACTERS_A_TOKEN, max_text_tokens
    )


class Halving(Generic[T]):
    """Runs batches through a model; where memory runs out, halves the batch for the rest of the run and goes on."""

    def __init__(
        self,
        work: Callable[[Sequence[T]], np.ndarray],
        progress: Progress,
        batch_size: int,
        *,
        what: str = "the model",
        remedy: str = "use a device with more memory",
    ) -> None:
        """work: items -> one entry (or row) each; it raises the device's out-of-memory error."""
        self.work, self.progress, self.limit = work, progress, batch_size
        self.what, self.remedy = what, remedy
        self.halvings = 0

    def parts(self, items: Sequence[T]) -> list[np.ndarray]:
        """What `work` gave, piece by piece. Raises EmtError where not even one item fits."""
        found, at = [], 0
        while at < len(items):
            part = items[at : at + self.limit]
            try:
                result = self.work(part)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(len(part), error)
                continue
            found.append(result)
            at += len(part)
        return found

    def _halve(self, tried: int, error: BaseException) -> None:
        if tried == 1:
            raise EmtError(
                f"{self.what} runs out of memory with a single sample", remedy=self.remedy
            ) from error
        self.limit = max(tried // 2, 1)
        self.halvings += 1
        _free_device_memory()
        self.progress.say(f"out of memory with {tried} samples at once; going on with {self.limit}")


class HalvingEncoder(Halving[Prepared]):
    """Halving over an encoder's batches."""

    def __init__(self, encoder: Encoder, progress: Progress, batch_size: int) -> None:
        remedy = "use a device with more memory, fewer embed.max_images or precision bfloat16"
        super().__init__(encoder.encode, progress, batch_size, what="the encoder", remedy=remedy)
        self.encoder = encoder

    def encode(self, prepared: Sequence[Prepared]) -> np.ndarray:
        """float32 [n, dim]. Raises EmtError where not even one sample fits."""
        found = self.parts(prepared)
        return np.concatenate(found) if found else np.empty((0, self.encoder.dim), np.float32)


def is_out_of_memory(error: BaseException) -> bool:
    # torch.OutOfMemoryError is a RuntimeError; so is what the CPU allocator raises, known by its words alone
    return isinstance(error, MemoryError) or any(
        words in str(error).lower() for words in OUT_OF_MEMORY
    )


def _free_device_memory() -> None:
    import gc
    import sys

    gc.collect()  # the failed pass's tensors hang on its traceback
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
