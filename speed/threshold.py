"""Moving a threshold over 10M scores: what one move of the Select page's slider costs the server.

    python speed/threshold.py [--rows 10000000 --moves 1000]

Goal: at most 10 ms a move on two idle cores. A move = counts of every (source, category) cell and
the total; K <-> threshold is measured by itself. The Preview is built once per score artifact; its
cost is printed too.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from top_k import candidates, measure

from emt_core.recipe.selection import SelectConfig
from emt_core.selection import Preview


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("rows", 10_000_000), ("moves", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    c = candidates(args.rows)
    begun = time.perf_counter()
    preview = Preview(c)
    built = time.perf_counter() - begun
    print(f"{args.rows:,} scores, {preview.eligible:,} eligible; preview built in {built:.2f} s")
    thresholds = np.random.default_rng(1).uniform(-3, 3, args.moves)
    moves = []
    for threshold in thresholds:
        begun = time.perf_counter()
        shown = preview.at_threshold(float(threshold))
        moves.append((time.perf_counter() - begun) * 1e3)
    above = (c.logit >= np.float32(thresholds[-1])) & c.pool[c.source]
    assert shown.total == int(above.sum())
    print(
        f"a move: median {np.median(moves):.3f} ms, 99 % {np.quantile(moves, 0.99):.3f} ms, worst "
        f"{max(moves):.2f} ms "
        f"({args.moves} moves, load {os.getloadavg()[0]:.1f})"
    )
    k = preview.eligible // 8
    measure("K -> threshold -> K", lambda: preview.k_of(preview.threshold_of(k)), 200, 1e3, "ms")
    measure("rows near the cut (2 x 50)", lambda: preview.rows_near(1.0, 50), 200, 1e3, "ms")
    caps = {
        "source": {f"s{i}": k // 12 for i in range(8)},
        "category": {f"c{i}": k // 8 for i in range(4)},
    }
    measure(
        "a move with 12 caps",
        lambda: preview.composition(SelectConfig(k=k, caps=caps)),
        5,
        1e3,
        "ms",
    )


if __name__ == "__main__":
    main()
