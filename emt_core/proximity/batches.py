"""Balanced batches from the feature store: half robot (each set equally likely, then a frame), half pool (uniform).

Rows are drawn step by step from two seeded streams and read a block of steps at a time: memory does not grow with the
pool, and the block size does not change what is drawn.
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
        self, batch_size: int, steps: int, *, block_steps: int = BLOCK_STEPS
    ) -> Iterator[np.ndarray]:
        """`steps` times float64 [batch_size, dim]; the first batch_size // 2 rows are robot frames."""
        n_robot = batch_size // 2
        pool_stream, robot_stream = (np.random.default_rng([self.seed, part]) for part in (0, 1))
        for start in range(0, steps, block_steps):
            rows = np.empty((min(block_steps, steps - start), batch_size), np.int64)
            for step in rows:
                _, step[:n_robot] = robot_rows(self.robots, robot_stream, n_robot)
                step[n_robot:] = self.pool[
                    pool_stream.integers(len(self.pool), size=batch_size - n_robot)
                ]
            block = take_finite(self.features, rows.reshape(-1), np.float64)
            yield from block.reshape(*rows.shape, -1)


def robot_rows(
    robots: Sequence[np.ndarray], stream: np.random.Generator, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(place of the robot set, its row), each int64 [count]: every set equally likely, then each of its rows.

    robots: row numbers of each set (none empty).
    """
    which = stream.integers(len(robots), size=count)
    place = stream.random(count)
    sizes = np.array([len(rows) for rows in robots])[which]
    places = (place * sizes).astype(np.int64)
    return which, np.array([robots[w][p] for w, p in zip(which, places, strict=True)], np.int64)


def bounded(rows: Sequence[np.ndarray], most: int, seed: int) -> list[np.ndarray]:
    """At most `most` rows in all, an equal bound for each group, drawn without repeats and returned in rising order."""
    share = max(most // len(rows), 1)
    out = []
    for place, group in enumerate(rows):
        rng = np.random.default_rng([seed, 2, place])
        out.append(
            np.sort(rng.choice(group, share, replace=False)) if len(group) > share else group
        )
    return out
