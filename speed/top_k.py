"""Top-K of 10M scores, and the decisions around it.

    python speed/top_k.py [--rows 10000000 --k 1200000 --repeats 7]

Goal: top-K of 10M scores in at most 0.5 s on two idle cores (one is used). "scores -> rows" is
`best_rows`: 10M float32 in, K rows in rank order out, ties by row. "decide" is the select stage's
decision with a reason for every row. On a busy machine read the CPU seconds: wall time is other
people's.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace

import numpy as np

from emt_core.data.draws import best_rows
from emt_core.recipe.selection import Clusters, SelectConfig
from emt_core.selection import Candidates, decide

CELLS = 10_000


def candidates(rows: int, sources: int = 12, categories: int = 9) -> Candidates:
    """Ten pool sources and two robot sets, every row with a vector."""
    rng = np.random.default_rng(0)
    return Candidates(
        source=(np.arange(rows) * sources // rows).astype(np.int16),
        sources=tuple(f"s{i}" for i in range(sources)),
        pool=np.arange(sources) < sources - 2,
        category=rng.integers(0, categories, rows).astype(np.int16),
        categories=tuple(f"c{i}" for i in range(categories)),
        logit=rng.standard_normal(rows, dtype=np.float32),
        status=np.zeros(rows, np.int16),
    )


def measure(name: str, work, repeats: int, unit: float = 1.0, mark: str = "s") -> None:
    wall = []
    cpu = []
    for _ in range(repeats):
        a = time.perf_counter()
        b = time.process_time()
        work()
        wall.append((time.perf_counter() - a) * unit)
        cpu.append((time.process_time() - b) * unit)
    print(
        f"{name:<42} best {min(wall):.3f} {mark}   median {np.median(wall):.3f} {mark}   "
        f"cpu {min(cpu):.3f} {mark}   load {os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("rows", 10_000_000), ("k", 1_200_000), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    c = candidates(args.rows)
    assert c.logit is not None
    rows = best_rows(c.logit, args.k)
    order = (
        np.lexsort((np.arange(args.rows), -c.logit))[: args.k] if args.rows <= 1_000_000 else None
    )
    assert order is None or (rows == order).all()
    caps = {
        "source": {f"s{i}": args.k // 12 for i in range(8)},
        "category": {f"c{i}": args.k // 8 for i in range(4)},
    }
    shares = {f"s{i}": 0.1 for i in range(10)}
    print(f"{args.rows:,} scores, K = {args.k:,}")
    measure("scores -> rows", lambda: best_rows(c.logit, args.k), args.repeats)
    measure("decide, top K", lambda: decide(c, SelectConfig(k=args.k)), args.repeats)
    measure("decide, threshold", lambda: decide(c, SelectConfig(threshold=1.2)), args.repeats)
    measure(
        "decide, random K",
        lambda: decide(c, SelectConfig(strategy="random", k=args.k)),
        args.repeats,
    )
    measure("decide, top K, 12 caps", lambda: decide(c, SelectConfig(k=args.k, caps=caps)), 3)
    measure(
        "decide, top K, 10 quotas",
        lambda: decide(c, SelectConfig(k=args.k, quotas={"source": shares})),
        3,
    )
    spread = replace(c, cell=np.random.default_rng(1).integers(0, CELLS, args.rows, np.int32))
    cells = Clusters(cells=CELLS, most=0.9)
    measure(
        f"decide, top K, {CELLS:,} cells",
        lambda: decide(spread, SelectConfig(k=args.k, clusters=cells)),
        3,
    )


if __name__ == "__main__":
    main()
