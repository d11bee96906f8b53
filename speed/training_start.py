"""From a million-sample selection on disk to the first micro-batch: nothing is tokenised or copied
beforehand.

    python speed/million.py --demo workspace-demo --out workspace-million
    python speed/training_start.py --workspace workspace-million [--batch 16]

Everything that mid-training does between reading which rows are selected and its first forward
pass, the model's own loading left out: index, selection, order of the epoch, expected lengths,
images decoded and conversations tokenised of the first step. Goal: a minute.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()

    from emt_core.data.index import Index
    from emt_core.models.vlm.load import load_processor
    from emt_core.training.midtrain.batches import Feed, Selection
    from emt_core.training.midtrain.conversations import ConversationPreparer
    from emt_core.training.midtrain.micro_batch import Plan
    from emt_core.workspace.artifact import Workspace

    sources = max(
        Workspace.open(args.workspace).artifacts("sources"), key=lambda artifact: artifact.rows
    )
    preparer = ConversationPreparer(load_processor(str(ROOT / "assets" / "tiny_vlm")), cutoff=1024)
    process = psutil.Process()
    idle = process.memory_info().rss
    began = time.perf_counter()
    index = Index(sources)
    rows = np.flatnonzero(index.is_pool() & (index.table.column("n_images") > 0))
    selection = Selection(sources, rows, preparer, max_images=4)
    feed = Feed(selection, seed=0, workers=0)
    ready = time.perf_counter() - began
    steps = feed.steps(1, 4, Plan(batch=args.batch, micro=args.batch))
    next(steps)
    first = time.perf_counter() - began
    next(steps)
    second = time.perf_counter() - began - first
    print(
        f"{len(rows):,} samples selected, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}: "
        "order and lengths"
        f" after {ready:.1f} s, first batch of {args.batch} after {first:.1f} s, the second "
        f"{second:.2f} s later;"
        f" {(process.memory_info().rss - idle) / 2**20:,.0f} MB more"
    )


if __name__ == "__main__":
    main()
