"""Decoding in worker processes, results in order: what embedding and training share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from typing import Any, TypeVar, cast

from emt_core.errors import EmtError
from emt_core.workspace.process import live_and_die_with_parent

Key = TypeVar("Key")
Value = TypeVar("Value")


def start_server(preload: Sequence[str] = ()) -> None:
    """Let the fork server begin to import what workers need, and come back at once.

    preload: as for `in_order`, which starts the server itself where nobody did. To be called before
    something slow, such as loading a model, so that the imports take place meanwhile.
    """
    multiprocessing.set_forkserver_preload(["torch.utils.data", *preload])
    forkserver.ensure_running()


def in_order(
    work: Callable[[Key], Value],
    keys: Iterable[Key],
    workers: int,
    *,
    ahead: int = 2,
    preload: Sequence[str] = (),
) -> Iterator[Value]:
    """`work(key)` for each key, in the order of the keys; workers: processes, 0 for this one.

    work: pickled once for each process. ahead: keys that a process has in hand at the most.
    preload: modules that `work` needs, imported once for all processes. Tensors come back through
    shared memory. Closing the iterator ends the processes, and so does the death of this one.
    Raises EmtError where a process dies, and the one that `work` raised as it was.
    """
    if not workers:
        yield from map(work, keys)
        return
    from torch.utils.data import DataLoader

    # Lance and OpenMP threads do not survive a plain fork
    context: Any = multiprocessing.get_context("forkserver")
    start_server(preload)
    loader = DataLoader(
        _Keys(),  # pyright: ignore[reportArgumentType]
        sampler=keys,
        batch_size=None,
        collate_fn=cast(Any, _Work(work)),
        num_workers=workers,
        multiprocessing_context=context,
        prefetch_factor=ahead,
        worker_init_fn=_start_worker,
    )
    try:
        yield from map(_unwrapped, loader)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise EmtError(
            "a decoding process ended by itself, most likely for want of memory",
            remedy="run the same command again with fewer runtime.workers or a smaller"
            " runtime.batch (in a container also more shared memory, `--shm-size`);"
            " finished work is kept",
        ) from error


@dataclass(frozen=True)
class _Failure:
    """An EmtError on its way here. The DataLoader would put a traceback in the place of `what`."""

    what: str
    where: str
    remedy: str


class _Work:
    """`work`, but that it returns an EmtError as a _Failure."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def __call__(self, key: Any) -> Any:
        try:
            return self.work(key)
        except EmtError as error:
            return _Failure(error.what, error.where, error.remedy)


def _unwrapped(value: Any) -> Any:
    if isinstance(value, _Failure):
        raise EmtError(value.what, where=value.where, remedy=value.remedy)
    return value


class _Keys:
    """The DataLoader's dataset: the worker gets the key itself, and `work` makes the value."""

    def __getitem__(self, key: Any) -> Any:
        return key


def _start_worker(_number: int) -> None:
    # The DataLoader's own watch looks at the parent process, which is the fork server: the server
    # lives as long as its workers do, so both would outlive a main process that was killed.
    live_and_die_with_parent()
