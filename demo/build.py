"""Builds the demo's data: the pool in eight sources and, when asked, the robot sets.

    python -m demo.build --out assets/demo                  # the pool; needs fonts and simulators
    python -m demo.build --out FOLDER --plain --scale 0.1   # a small one without a simulator
    python -m demo.build --out assets/demo --robots         # robot sets as well

Build time only: what it writes is shipped, and the running demo needs neither fonts nor simulators.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo.pool import PLANS, Draw, Row, SourcePlan, compose, draw_any
from demo.pool_formats import WRITERS
from emt_core.errors import EmtError


def build_pool(
    out: Path, plans: Sequence[SourcePlan] = PLANS, *, scale: float = 1.0, draw: Draw = draw_any
) -> dict:
    """Write `out/pool` (which must not exist) and return its counts, also kept as
    `out/pool/counts.json`.

    scale: fraction of the full size. The same plans and scale give the same rows and the same bytes
    in all index files; image bytes also depend on the version of the codecs. Built aside and
    renamed.
    """
    target = out / "pool"
    if target.exists():
        raise EmtError("The demo's pool exists", where=target, remedy="remove it first")
    partial = out / ".pool.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    counts: dict[str, Any] = {}
    for number, plan in enumerate(PLANS):
        if plan not in plans:
            continue
        rows = compose(plan, number, scale=scale, draw=draw)
        WRITERS[plan.format](partial, plan.name, rows)
        counts[plan.name] = _counts(plan, rows)
        print(f"{plan.name}: {counts[plan.name]}", flush=True)
    (partial / "counts.json").write_text(json.dumps(counts, indent=2) + "\n")
    partial.rename(target)
    return counts


def _counts(plan: SourcePlan, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "format": plan.format,
        "style": plan.style,
        "rows": len(rows),
        "content": dict(sorted(Counter(row.content for row in rows).items())),
        "kind": dict(sorted(Counter(row.kind for row in rows).items())),
        "images": len({key for row in rows for key, _ in row.images}),
        "multi_turn": sum(len(row.turns) > 1 for row in rows),
        "several_images": sum(len(row.images) > 1 for row in rows),
        "text_only": sum(not row.images for row in rows),
        "repeated_ids": len(rows) - len({row.own_id for row in rows}),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--plain", action="store_true", help="only the sources without a simulator")
    parser.add_argument("--robots", action="store_true", help="record the robot sets as well")
    args = parser.parse_args(argv)
    build_pool(
        args.out, [p for p in PLANS if p.style == "plain" or not args.plain], scale=args.scale
    )
    if args.robots:
        from emt_core.evaluation.recording import demonstrations

        demonstrations.main(["--out", str(args.out / "robots")])


if __name__ == "__main__":
    main()
