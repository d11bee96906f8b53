"""Balanced batches from the feature store: half robot rows, half pool rows.

Rows are drawn step by step from two seeded streams and read a block of steps at a time: memory does
not grow with the pool, and the size of a block does not change what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emt_core.data.features import Features, take_finite

BLOCK_STEPS = 32


@dataclass(frozen=True)
class Draws:
    """pool: row numbers; robots: row numbers of each robot set (none empty)."""

    features: Features
    pool: np.ndarray
    robots: Sequence[np.ndarray]
    seed: int

    def batches(
        self, batch_size: int, steps: int, *, members: int = 1, block_steps: int = BLOCK_STEPS
    ) -> Iterator[np.ndarray]:
        """`steps` times float64 [members, batch_size, dim], each member's rows drawn on their own.

        The first batch_size // 2 rows are robots.
        """
        n_robot = batch_size // 2
        n_pool = batch_size - n_robot
        pools = [np.random.default_rng([self.seed, 3, member]) for member in range(members)]
        robots = [np.random.default_rng([self.seed, 4, member]) for member in range(members)]
        block_steps = max(block_steps // members, 1)
        for start in range(0, steps, block_steps):
            rows = np.empty((min(block_steps, steps - start), members, batch_size), np.int64)
            for step in rows:
                for mine, pool_stream, robot_stream in zip(step, pools, robots, strict=True):
                    _, mine[:n_robot] = robot_rows(self.robots, robot_stream, n_robot)
                    mine[n_robot:] = self.pool[pool_stream.integers(len(self.pool), size=n_pool)]
            block = take_finite(self.features, rows.reshape(-1), np.float64)
            yield from block.reshape(*rows.shape, -1)


def robot_rows(
    robots: Sequence[np.ndarray], stream: np.random.Generator, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(place of the robot set, its row), int64 [count] each: a random set, then a random row of it.

    robots: row numbers of each set (none empty).
    """
    which = stream.integers(len(robots), size=count)
    share = stream.random(count)
    sizes = np.array([len(rows) for rows in robots])[which]
    places = (share * sizes).astype(np.int64)
    return which, np.array([robots[w][p] for w, p in zip(which, places, strict=True)], np.int64)


def bounded(groups: Sequence[np.ndarray], most: int, seed: int) -> list[np.ndarray]:
    """At most `most` rows in all: an equal bound for each group, a seeded draw where it is larger.

    Returned groups are in rising order.
    """
    share = max(most // len(groups), 1)
    drawn = []
    for place, group in enumerate(groups):
        if len(group) > share:
            rng = np.random.default_rng([seed, 2, place])
            group = np.sort(rng.choice(group, share, replace=False))
        drawn.append(group)
    return drawn


def stratified(
    pool: np.ndarray, robots: Sequence[np.ndarray], most: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(rows, stratum): at most `most` pool rows and as many robot rows, the sets in equal parts.

    stratum: int64, 0 for the pool, k for the k-th robot set.
    """
    groups = [*bounded([pool], most, seed), *bounded(robots, most, seed)]
    return np.concatenate(groups), np.repeat(np.arange(len(groups)), list(map(len, groups)))
