"""What the app's pages cost the server with a large pool: the map, a lasso, the histograms, the
gallery's filter.

    python speed/explore.py [--rows 1000000]

Arrays are made here; nothing is read from disk, no browser takes part. `bytes`: what a figure sends
to the browser.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from emt_core.explore.figures.map_layers import Coloring, MapPoints, draw_map
from emt_core.explore.figures.scores import violins
from emt_core.explore.reading import rank_order
from emt_core.explore.tables.map import Region, bounds_of, rows_in
from emt_core.explore.tables.scores import bin_edges, distribution


def best(call: Callable[[], Any], repeats: int = 5) -> tuple[float, Any]:
    """(seconds of the quickest call, its result)."""
    spent = []
    found = None
    for _ in range(repeats):
        begun = time.perf_counter()
        found = call()
        spent.append(time.perf_counter() - begun)
    return min(spent), found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    n = parser.parse_args().rows
    rng = np.random.default_rng(0)
    center = rng.normal(0, 4, (12, 2)).astype(np.float32)
    code = rng.integers(0, 12, n).astype(np.int16)
    xy = center[code] + rng.normal(0, 1, (n, 2)).astype(np.float32)
    x = np.ascontiguousarray(xy[:, 0])
    y = np.ascontiguousarray(xy[:, 1])
    logit = (x / 2 + rng.normal(0, 1, n)).astype(np.float32)
    robot = code == 11
    names = tuple(f"source_{i}" for i in range(12))
    points = MapPoints(x=x, y=y, robot=robot, source=code, sources=names, logit=logit)
    groups = Coloring(
        names=names, colors=dict.fromkeys(names, "#3A6EA5"), codes=np.where(robot, -1, code)
    )
    values = Coloring(
        names=("pool",),
        colors={"pool": "#3A6EA5"},
        codes=np.where(robot, -1, 0).astype(np.int16),
        values=logit,
        value_range=(-4, 4),
    )
    bounds = bounds_of(x, y)
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    lasso = Region(tuple(2 * np.cos(angle)), tuple(2 * np.sin(angle)))
    edges = bin_edges(logit, "logit")
    order = rank_order(logit, np.ones(n, bool))
    print(f"{n:,} rows, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    for title, coloring in (("map by source", groups), ("map by score", values)):
        seconds, figure = best(lambda c=coloring: draw_map(points, c, bounds))
        print(f"{title:<28} {1000 * seconds:8.1f} ms {len(figure.to_json()):>10,} bytes")
    seconds, rows = best(lambda: rows_in(lasso, x, y))
    print(f"{'lasso of 48 corners':<28} {1000 * seconds:8.1f} ms {len(rows):>10,} rows")
    seconds, data = best(lambda: distribution(logit, code, names, edges))
    print(f"{'histograms of 12 sources':<28} {1000 * seconds:8.1f} ms")
    seconds, figure = best(lambda: violins(data.by_median(), {}))
    print(
        f"{'violins of 12 sources':<28} {1000 * seconds:8.1f} ms {len(figure.to_json()):>10,} bytes"
    )
    keep = np.isin(code, [1, 4]) & (logit > 0)
    seconds, rows = best(lambda: order[keep[order]])
    print(f"{'filter in score order':<28} {1000 * seconds:8.1f} ms {len(rows):>10,} rows")


if __name__ == "__main__":
    main()
