"""Each hot path against its floor and against what a user has instead, in one run.

    python speed/compare.py                        # every case at its own size
    python speed/compare.py --case scoring --rows 1000000 --repeats 5
    python speed/compare.py --growth               # ours alone, at 1, 10 and 50 million rows
    python speed/compare.py --write                # keep the tables in speed/results/compare.md

A case is a file in speed/cases/. Its contenders are `ours`, `floor` (what no implementation can do
without: reading the bytes, multiplying the matrices, parsing the text) and peers. Each run is a
process of its own, and contenders take turns, so that the ratios are of neighbors on a machine
whose speed changes. Peers that the project does not depend on (speed/peers.txt) run in an
environment of their own, `--peers FOLDER/bin/python`; without it they are left out by name.

What is measured starts when imports and set-up are done. Quoted is the least CPU time (user and
system, with children) and wall time of the repeats, and the peak of anonymous memory above the
start: pages of mapped files are the kernel's. On a busy machine read the CPU seconds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULT = HERE / "results" / "compare.md"
CASES = tuple(
    sorted(path.stem for path in (HERE / "cases").glob("[a-z]*.py") if path.stem != "store")
)
TIMEOUT_S = 3600


@dataclass
class Best:
    """The least of several runs of one contender."""

    cpu: float
    wall: float
    memory_mb: float
    said: dict[str, Any]


def run_once(
    case: str, contender: str, folder: Path, rows: int, python: Path, threads: int
) -> dict[str, Any]:
    """One process: its figures, or {"failed": why}."""
    out = folder / "figures.json"
    out.unlink(missing_ok=True)
    command = [str(python), str(HERE / "contender.py"), case, contender, str(folder), str(rows)]
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS")
    env = {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {TIMEOUT_S} s"}
    if done.returncode or not out.exists():
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"failed": lines[-1][:200]}
    return json.loads(out.read_text())


def compare(
    case: str, rows: int, repeats: int, peers: Path | None, threads: int, only: set[str] | None
) -> tuple[dict[str, Best], dict[str, str], str]:
    """Best of each contender, why others failed, and what `check` says of their results."""
    module = importlib.import_module(f"cases.{case}")
    best: dict[str, Best] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix=f"compare-{case}-") as aside:
        folder = Path(aside)
        module.prepare(folder, rows)
        for turn in range(repeats):
            for name, contender in module.CONTENDERS.items():
                if name in failed or (only and name not in only):
                    continue
                if turn and turn >= contender.repeats:
                    continue
                python = Path(sys.executable)
                if contender.peer:
                    if peers is None:
                        failed[name] = "not installed here (speed/peers.txt, --peers)"
                        continue
                    python = peers
                found = run_once(case, name, folder, rows, python, threads)
                if "failed" in found:
                    failed[name] = found["failed"]
                    continue
                print(f"  {name}: cpu {found['cpu']:.2f} s, wall {found['wall']:.2f} s", flush=True)
                have = best.get(name)
                best[name] = Best(
                    cpu=min(found["cpu"], have.cpu if have else found["cpu"]),
                    wall=min(found["wall"], have.wall if have else found["wall"]),
                    memory_mb=min(found["memory_mb"], have.memory_mb if have else 1e9),
                    said=found["said"],
                )
        agreed = module.check({name: b.said for name, b in best.items()})
    return best, failed, agreed


def table(case: str, rows: int, best: dict[str, Best], failed: dict[str, str], agreed: str) -> str:
    module = importlib.import_module(f"cases.{case}")
    title = (module.__doc__ or case).splitlines()[0]
    lines = [f"### {title}", "", f"{rows:,} {module.UNIT}. {agreed}", ""]
    heads = ("contender", "CPU s", "wall s", "memory above start, MB", "ours in parts of its CPU")
    lines += [f"| {' | '.join(heads)} | what it says |", "|---|---:|---:|---:|---:|---|"]
    ours = best.get("ours")
    for name, b in best.items():
        ratio = f"{ours.cpu / b.cpu:.2f}" if ours and b.cpu else ""
        said = ", ".join(f"{k} {v:.4g}" for k, v in b.said.items() if isinstance(v, float | int))
        lines.append(
            f"| {name} | {b.cpu:.2f} | {b.wall:.2f} | {b.memory_mb:,.0f} | {ratio} | {said} |"
        )
    lines += [
        f"| {name} | | | | | did not run: {why.replace('|', '/')} |" for name, why in failed.items()
    ]
    return "\n".join([*lines, ""])


def growth(case: str, threads: int) -> str:
    """Ours alone at each of the case's GROWTH sizes; the ratio is to the size before."""
    module = importlib.import_module(f"cases.{case}")
    title = (module.__doc__ or case).splitlines()[0]
    lines = [f"### {title}", ""]
    lines += [
        "| rows | CPU s | wall s | memory above start, MB | CPU s for a million |",
        "|---:|---:|---:|---:|---:|",
    ]
    for rows in module.GROWTH:
        with tempfile.TemporaryDirectory(prefix=f"growth-{case}-") as aside:
            module.prepare(Path(aside), rows, growth=True)
            found = run_once(case, "ours", Path(aside), rows, Path(sys.executable), threads)
        if "failed" in found:
            lines.append(f"| {rows:,} | did not run: {found['failed']} | | | |")
            continue
        per = found["cpu"] / rows * 1e6
        figures = (
            f"{found['cpu']:.2f} | {found['wall']:.2f} | {found['memory_mb']:,.0f} | {per:.3f}"
        )
        lines.append(f"| {rows:,} | {figures} |")
        print(lines[-1], flush=True)
    return "\n".join([*lines, ""])


def machine() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cpu = names[0] if names else platform.processor()
    load = "/".join(f"{x:.1f}" for x in os.getloadavg())
    python = platform.python_version()
    return (
        f"{os.cpu_count()} x {cpu}, {memory:.0f} GB, load {load}, Python {python}, {date.today()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--contender", action="append", help="only these")
    parser.add_argument("--rows", type=int, help="instead of each case's own size")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers", type=Path, help="python of an environment with speed/peers.txt")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    sys.path.insert(0, str(HERE))
    before = machine()
    parts = []
    for case in given.case or CASES:
        module = importlib.import_module(f"cases.{case}")
        print(f"== {case}", flush=True)
        if given.growth:
            if hasattr(module, "GROWTH"):
                parts.append(growth(case, given.threads))
            continue
        rows = given.rows or module.ROWS
        only = set(given.contender) if given.contender else None
        best, failed, agreed = compare(case, rows, given.repeats, given.peers, given.threads, only)
        parts.append(table(case, rows, best, failed, agreed))
        print(parts[-1], flush=True)
    if given.write:
        kind = "Growth" if given.growth else "Against floors and peers"
        head = f"# {kind}\n\n    python speed/compare.py{' --growth' if given.growth else ''}\n\n"
        out = RESULT.with_name("growth.md") if given.growth else RESULT
        out.write_text(head + f"{before}; {given.threads} thread.\n\n" + "\n".join(parts))


if __name__ == "__main__":
    main()
