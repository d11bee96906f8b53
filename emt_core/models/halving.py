"""Smaller batches where memory runs out: one rule for embedding, scoring and training."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from emt_core.errors import EmtError

T = TypeVar("T")

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
)
"""torch.OutOfMemoryError is a RuntimeError. So is what the CPU allocator raises, which only its
words tell from other errors."""


def is_out_of_memory(error: BaseException) -> bool:
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in OUT_OF_MEMORY)


def release_memory() -> None:
    """Free what a failed pass left in circles of references and in the device's cache."""
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def half_of(
    tried: int,
    error: BaseException,
    *,
    say: Callable[[str], None],
    least: int = 1,
    what: str = "the model",
    where: object = "",
    remedy: str = "use a device with more memory",
) -> int:
    """How many samples to try after `error` ended a pass of `tried` samples.

    Raises `error` itself where memory was not the reason, and EmtError where `tried` is no more
    than `least`: there is nothing left to halve. Else the local variables of the pass are let
    go, so that its memory is free for the next one.
    """
    if not is_out_of_memory(error):
        raise error
    if tried <= least:
        count = "a single sample" if tried == 1 else f"{tried} samples a pass"
        raise EmtError(
            f"{what} runs out of memory with {count}", where=where, remedy=remedy
        ) from error
    traceback.clear_frames(error.__traceback__)
    release_memory()
    half = tried // 2
    say(f"out of memory with {tried} samples at once; going on with {half}")
    return half


class Halving(Generic[T]):
    """Runs items through a model in batches; after a failure later batches are half as large."""

    def __init__(
        self,
        work: Callable[[Sequence[T]], np.ndarray],
        say: Callable[[str], None],
        limit: int,
        *,
        what: str,
        remedy: str,
    ) -> None:
        """work: items -> one entry (or row) each; it raises the device's out-of-memory error."""
        self.work = work
        self.say = say
        self.limit = limit
        self.what = what
        self.remedy = remedy
        self.halvings = 0

    def parts(self, items: Sequence[T]) -> list[np.ndarray]:
        """What `work` returned, batch by batch. Raises EmtError where not even one item fits."""
        results: list[np.ndarray] = []
        done = 0
        while done < len(items):
            part = items[done : done + self.limit]
            try:
                results.append(self.work(part))
            except (MemoryError, RuntimeError) as error:
                self.limit = half_of(
                    len(part), error, say=self.say, what=self.what, remedy=self.remedy
                )
                self.halvings += 1
            else:
                done += len(part)
        return results
