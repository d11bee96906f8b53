"""Scoring 2M x 1024 float16 features from the store against the store's own raw scan; peak memory
above idle.

    python speed/score_scan.py [--rows 2000000 --dim 1024 --seeds 8 --repeats 5] [--store FOLDER]

Goals: at most 1.5 times the raw scan, at most 1 GB above the idle process. Raw scan and score are
measured in turns, because a shared machine changes speed from minute to minute: the ratio is of
neighbours. CPU seconds stand beside. `--store` keeps the 4 GB store for the next time.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from emt_core.data.features import Features, feature_table
from emt_core.proximity.stream import SCAN_BATCH, error_bound, stream_logits

APPEND_ROWS = 50_000


def build(features: Features, rows: int, dim: int) -> None:
    base = (
        np.random.default_rng(0).standard_normal((APPEND_ROWS, dim), np.float32).astype(np.float16)
    )
    for place in range(-(-rows // APPEND_ROWS)):
        part = np.roll(base, place, axis=1)[: rows - place * APPEND_ROWS]
        features.table.append(feature_table(part, [""] * len(part)))


def raw_scan(features: Features) -> None:
    for _ in features.table.scan(["vector"], batch_rows=SCAN_BATCH):
        pass


def half_precision(features: Features, weight: np.ndarray) -> np.ndarray:
    """The tempting way: as quick, and wrong in the third digit."""
    import torch

    vector = torch.from_numpy(weight).half()
    parts = [
        (torch.from_numpy(x.copy()) @ vector).float().numpy()
        for _, x in features.batches(stop=16_384)
    ]
    return np.concatenate(parts)


class PeakMemory:
    """Highest resident set seen, sampled every 20 ms."""

    def __enter__(self) -> PeakMemory:
        self.process = psutil.Process()
        self.peak = 0
        self.stop = threading.Event()
        self.idle = self.process.memory_info().rss
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.stop.wait(0.02):
            self.peak = max(self.peak, self.process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    @property
    def above_idle_mb(self) -> float:
        return (self.peak - self.idle) / 2**20


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall = time.perf_counter()
    cpu = time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("rows", 2_000_000), ("dim", 1024), ("seeds", 8), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--store", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        features = Features.at((args.store or Path(aside)) / "features.lance")
        if not features.rows:
            build(features, args.rows, args.dim)
        weight = np.random.default_rng(1).standard_normal(args.dim).astype(np.float32) / np.sqrt(
            args.dim
        )
        drawn = np.random.default_rng(2).standard_normal((args.seeds, args.dim))
        members = None  # a single seed has no spread
        if args.seeds > 1:
            members = (drawn.astype(np.float32), np.zeros(args.seeds, np.float32))
        size = features.rows * features.dim * 2 / 1e9

        def score() -> None:
            logits = stream_logits(features, weight, 0.1, members=members)
            rows = sum(len(part) for _, part in logits)
            assert rows == features.rows

        import torch

        torch.mv(torch.ones(2, 2), torch.ones(2))
        print(f"{features.rows:,} x {features.dim} float16 = {size:.2f} GB, {os.cpu_count()} cores")
        print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
        ratios = []
        cpu_ratios = []
        with PeakMemory() as memory:  # idle: everything imported, nothing read yet
            raw_scan(features)  # page cache warm, Lance's own threads started
            for _ in range(args.repeats):
                (raw, raw_cpu) = timed(lambda: raw_scan(features))
                (scored, scored_cpu) = timed(score)
                ratios.append(scored / raw)
                cpu_ratios.append(scored_cpu / raw_cpu)
                print(
                    f"raw {raw:.2f} s ({size / raw:.1f} GB/s, cpu {raw_cpu:.2f})   "
                    f"score {scored:.2f} s ({size / scored:.1f} GB/s, cpu {scored_cpu:.2f})   "
                    f"ratio {ratios[-1]:.2f}   load {os.getloadavg()[0]:.1f}"
                )
        print(
            f"median ratio {np.median(ratios):.2f} (wall), {np.median(cpu_ratios):.2f} (cpu); goal "
            "1.5"
        )
        print(
            f"peak memory {memory.above_idle_mb:,.0f} MB above idle ({memory.idle / 2**20:,.0f} "
            "MB); goal 1,024"
        )
        first = np.concatenate([x for _, x in features.batches(stop=16_384)])
        exact = first.astype(np.float64) @ weight.astype(np.float64) + 0.1
        ours = next(iter_first(features, weight, len(first)))
        print(
            f"largest error over {len(first):,} rows: {np.abs(ours - exact).max():.1e} "
            f"(stated bound {error_bound(first, weight, 0.1).max():.1e}); "
            f"float16 product: {np.abs(half_precision(features, weight) + 0.1 - exact).max():.1e}"
        )
        print(
            f"whole process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB "
            "at most"
        )


def iter_first(features: Features, weight: np.ndarray, rows: int):
    """The first rows' logits."""
    parts = []
    seen = 0
    for _, part in stream_logits(features, weight, 0.1):
        parts.append(part)
        seen += len(part)
        if seen >= rows:
            break
    yield np.concatenate(parts)[:rows]


if __name__ == "__main__":
    main()
