"""Seeded hashes and orders stay as they are: keys, splits and kept results rest on them."""

from __future__ import annotations

import numpy as np

from emt_core.data.draws import Purpose, mix64, random_keys
from emt_core.proximity.split import seeded_hash
from emt_core.training.midtrain.order import ShuffledStream


def test_splitmix64_is_the_published_one():
    # Steele, Lea and Flood 2014: the first outputs of seed 0
    states = (np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    first = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert mix64(states).tolist() == first


def test_hashes_and_orders_are_what_they_were():
    kept = [12823214692614861427, 8629686173653724144, 11427704165786427449]
    assert seeded_hash(np.arange(3), "0:web").tolist() == kept
    keys = [17197794504887762944, 9755396877125156865, 332739650521137154]
    assert random_keys(7, np.arange(3), Purpose.REPORT).tolist() == keys
    places = [2, 5, 8, 4, 0, 1, 9, 6, 7, 3, 9, 3]
    assert ShuffledStream(10, seed=3).at(np.arange(12)).tolist() == places
