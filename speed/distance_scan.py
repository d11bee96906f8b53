"""Average distance and k-th neighbour of a pool against robot frames, all pairs: time, memory, and
the machine's floor.

    python speed/distance_scan.py [--rows 1000000 --robots 50000 --dim 1024 --neighbours 10]

The work is one matrix product of rows x robots x dim multiplications. The floor is that many at the
rate at which this machine multiplies float32 matrices of the same shapes with nothing around it, on
as many threads; it is measured before and after, because a shared machine changes speed. 1M x 50k x
1024 is the goal's size (13 minutes on two cores); the default of 20,000 rows takes seconds and is
scaled to it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from score_scan import PeakMemory, build

from emt_core.data.features import Features
from emt_core.proximity.measures.bank import BLOCK_ROWS, TILE_ROWS, Bank
from emt_core.proximity.measures.distance import mean_distance
from emt_core.proximity.measures.knn import kth_distance
from emt_core.proximity.stream import score_blocks

GOAL_ROWS = 1_000_000


def matrix_rate(dim: int, seconds: float = 4.0) -> float:
    """Multiply-adds a second of BLOCK_ROWS x dim by dim x TILE_ROWS products, a single-threaded
    stream a core."""
    import torch

    def stream(_: int) -> int:
        torch.set_num_threads(1)
        a = torch.randn(BLOCK_ROWS, dim)
        b = torch.randn(dim, TILE_ROWS)
        out = torch.empty(BLOCK_ROWS, TILE_ROWS)
        stop = time.perf_counter() + seconds
        done = 0
        while time.perf_counter() < stop:
            torch.mm(a, b, out=out)
            done += 1
        return done

    threads = os.cpu_count() or 1
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        products = sum(pool.map(stream, range(threads)))
    return products * BLOCK_ROWS * dim * TILE_ROWS / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("rows", 20_000), ("robots", 50_000), ("dim", 1024), ("neighbors", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    work = args.rows * args.robots * args.dim
    print(
        f"{args.rows:,} x {args.robots:,} x {args.dim}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as aside:
        features = Features.at(Path(aside) / "features.lance")
        build(features, args.rows, args.dim)
        vectors = np.random.default_rng(1).standard_normal((args.robots, args.dim), np.float32)
        bank = Bank.of(vectors, np.full(args.robots, 1 / args.robots, np.float32), normalize=False)
        del vectors
        for name, score in (
            ("average distance", lambda x: mean_distance(x, bank)),
            (f"{args.neighbors}-th neighbour", lambda x: kth_distance(x, bank, args.neighbors)),
        ):
            before = matrix_rate(args.dim)
            with PeakMemory() as memory:
                began = time.perf_counter()
                rows = sum(len(part) for _, part in score_blocks(features, BLOCK_ROWS, score))
                wall = time.perf_counter() - began
            assert rows == args.rows
            rate = (before + matrix_rate(args.dim)) / 2
            floor = work / rate
            print(
                f"{name}: {wall:.1f} s, floor {floor:.1f} s ({2 * rate / 1e9:,.0f} GFLOP/s), ratio "
                f"{wall / floor:.2f}; "
                f"peak {memory.peak / 2**20:,.0f} MB, {memory.above_idle_mb:,.0f} MB of it above "
                "process and bank; "
                f"1M pool rows: {wall * GOAL_ROWS / args.rows / 60:.1f} min (scaled)"
            )


if __name__ == "__main__":
    main()
