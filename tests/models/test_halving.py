"""Smaller batches where memory runs out, and work in other processes that comes back in order."""

from __future__ import annotations

import os
import weakref
from functools import partial

import numpy as np
import pytest

from emt_core.errors import EmtError
from emt_core.models import halving
from emt_core.models.halving import Halving, half_of
from emt_core.models.workers import in_order


def test_a_failed_pass_is_halved_for_good_until_one_sample_is_too_much():
    tried: list[int] = []

    def work(items):
        tried.append(len(items))
        if len(items) > most:
            raise RuntimeError("CUDA out of memory")
        return np.array(items)

    most = 3
    said: list[str] = []
    halved = Halving(work, said.append, 8, what="it", remedy="less")
    assert np.concatenate(halved.parts(range(10))).tolist() == list(range(10))
    assert tried == [8, 4, 2, 2, 2, 2, 2] and halved.halvings == len(said) == 2
    most = 0
    with pytest.raises(EmtError, match="it runs out of memory with a single sample"):
        halved.parts(range(4))


def test_other_errors_and_passes_that_others_wait_for_are_not_halved():
    with pytest.raises(RuntimeError, match="shape"):
        half_of(4, RuntimeError("shape mismatch"), say=print)
    with pytest.raises(EmtError, match="4 samples a pass"):
        half_of(4, MemoryError(), say=print, least=4)


class Tensor:
    pass


def test_what_a_failed_pass_held_is_free_before_the_next(monkeypatch):
    held: list[weakref.ref[Tensor]] = []
    alive: list[bool] = []

    def failing():
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        raise MemoryError

    monkeypatch.setattr(halving, "release_memory", lambda: alive.append(held[0]() is not None))
    try:
        failing()
    except MemoryError as error:
        assert held[0]() is not None
        assert half_of(4, error, say=lambda _: None) == 2
        assert held[0]() is None
    assert alive == [False]  # what is freed later stays in the device's cache


def square(base: int, number: int) -> tuple[int, int]:
    if number == 99:
        os._exit(1)
    if number == 98:
        raise EmtError("98 is too much", where="here", remedy="take less.")
    return base + number * number, os.getpid()


def test_work_comes_back_in_order_and_a_dead_worker_is_named():
    done = list(in_order(partial(square, 1), range(20), 2))
    assert [value for value, _ in done] == [1 + n * n for n in range(20)]
    processes = {process for _, process in done}
    assert len(processes) == 2 and os.getpid() not in processes
    with pytest.raises(EmtError, match="a decoding process ended by itself"):
        list(in_order(partial(square, 1), [1, 2, 99, 3], 1))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_ours_arrives_as_it_was_raised(workers: int):
    with pytest.raises(EmtError) as raised:
        list(in_order(partial(square, 1), [1, 98, 3], workers))
    error = raised.value
    assert (error.what, error.where, error.remedy) == ("98 is too much", "here", "take less.")
    assert str(error) == "98 is too much.\n  where:  here\n  remedy: take less."
