"""MMD matrix of 12 sources x 2,000 samples x 1,024 float16 numbers: seconds, CPU seconds, peak
memory.

    python speed/mmd_matrix.py [--sources 12 --rows 2000 --dim 1024 --repeats 5]

The goal is 5 s on two idle cores. CPU seconds are printed too: on a shared machine the wall time is
other people's.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

import numpy as np
import torch

from emt_core.proximity.metrics.kernel import median_distance
from emt_core.proximity.metrics.mmd import mmd2, mmd_means
from emt_core.proximity.reference import SIGMA_ROWS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("sources", 12), ("rows", 2000), ("dim", 1024), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    groups = [
        (rng.standard_normal((args.rows, args.dim), np.float32) + 0.05 * place).astype(np.float16)
        for place in range(args.sources)
    ]
    idle_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, "
        f"{torch.backends.cpu.get_cpu_capability()}"
    )
    for _ in range(args.repeats):
        wall = time.perf_counter()
        cpu = time.process_time()
        share = max(SIGMA_ROWS // len(groups), 2)
        sigma = median_distance(np.concatenate([group[:share] for group in groups]))
        means = mmd_means(groups, sigma)
        one = np.eye(len(groups))
        matrix = np.array([[mmd2(means, p, q).value for q in one] for p in one])
        wall = time.perf_counter() - wall
        cpu = time.process_time() - cpu
        print(
            f"wall {wall:.2f} s   cpu {cpu:.2f} s   load {os.getloadavg()[0]:.1f}   largest "
            f"{matrix.max():.4f}"
        )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"peak memory {peak_mb - idle_mb:,.0f} MB above the features and imports ({idle_mb:,.0f} "
        "MB)"
    )


if __name__ == "__main__":
    main()
