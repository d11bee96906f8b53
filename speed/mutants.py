"""Damaged and hostile inputs for every reader: what they do to the product (docs/reliability.md).

    python speed/mutants.py                                  1,000 mutants of each reader
    python speed/mutants.py --reader webdataset --seed 17 --mutants 5000
    python speed/mutants.py --reader webdataset --seed 17 --only 431 --keep FOLDER

A mutant is made from reader, seed and number alone. --only makes one again and prints all that
came of it, --keep leaves its files. Prints a table, and each failure with the command that makes
its mutant again. Exit code 1 where anything failed.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "worlds")]

from mutation.pool import Pool, Result, Worker  # noqa: E402
from mutation.targets import TARGETS  # noqa: E402

COLUMNS = ("traceback", "crash", "hang", "memory", "rows", "changed", "place", "terminal")
"""Kinds of faults (tests/worlds/mutation/drive.py)."""

SHOWN = 1_500
"""Characters of a failure."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--reader", action="append", choices=sorted(TARGETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutants", type=int, default=1_000)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    readers = options.reader or list(TARGETS)
    if options.only is not None:
        return _one(readers[0], options.seed, options.only, options.keep)
    header = "reader|mutants|seconds|worst s|worst MB over clean|rows|errors"
    print("| " + " | ".join([*header.split("|"), *COLUMNS]) + " |")
    print("|---" * (7 + len(COLUMNS)) + "|")
    failed: list[Result] = []
    with tempfile.TemporaryDirectory() as folder, Pool(Path(folder) / "log") as pool:
        for reader in readers:
            began = time.monotonic()
            results = list(pool.run(reader, options.seed, range(options.mutants)))
            print(_line(reader, results, time.monotonic() - began), flush=True)
            failed += [result for result in results if result.faults]
    for (kind, _), alike in _by_cause(failed).items():
        result, detail = alike[0]
        again = f"--reader {result.target} --seed {result.seed} --only {result.number}"
        print(f"\n{len(alike)} x {kind}: python speed/mutants.py {again}   ({result.did})")
        print(f"  {detail.strip()[:SHOWN]}")
    return 1 if failed else 0


def _by_cause(failed: Sequence[Result]) -> dict[tuple[str, str], list[tuple[Result, str]]]:
    """Failures with the same last frame of their traceback, or the same first words."""
    found: dict[tuple[str, str], list[tuple[Result, str]]] = {}
    for result in failed:
        for kind, detail in result.faults:
            frames = re.findall(r'File "[^"]*/(\w+/\w+\.py)", line (\d+)', detail)
            cause = (
                str(frames[-1]) + detail.strip().splitlines()[-1].split(":")[0]
                if frames
                else re.sub(r"[\d\W]+", " ", detail)[:60]
            )
            found.setdefault((kind, cause), []).append((result, detail))
    return found


def _line(reader: str, results: Sequence[Result], seconds: float) -> str:
    faults = Counter(kind for result in results for kind in {kind for kind, _ in result.faults})
    cells = [
        reader,
        f"{len(results):,}",
        f"{seconds:.0f}",
        f"{max(result.seconds for result in results):.2f}",
        f"{max(result.memory_mb for result in results):.0f}",
        f"{sum(result.rows for result in results):,}",
        f"{sum(bool(result.error) for result in results):,}",
        *(str(faults[kind]) for kind in COLUMNS),
    ]
    return "| " + " | ".join(cells) + " |"


def _one(reader: str, seed: int, number: int, keep: Path | None) -> int:
    folder = keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    result = Worker().run(reader, seed, number, folder)
    print(f"{result.did}\n{result.rows} rows, {result.seconds:.2f} s, {result.memory_mb:.0f} MB")
    print(result.error or "no error")
    for kind, detail in result.faults:
        print(f"{kind}: {detail}")
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
