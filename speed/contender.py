"""One run of one contender, in a process of its own (called by compare.py).

    python speed/contender.py CASE CONTENDER FOLDER ROWS

Writes figures.json into the folder: CPU and wall seconds, peak of anonymous memory above the start
in MB, and what the contender says of its result.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import threading
import time
from pathlib import Path


def cpu_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def anonymous_kb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1])
    return 0


class Peak:
    """Highest anonymous memory of this process, looked at every 20 ms."""

    def __init__(self) -> None:
        self.start = self.kb = anonymous_kb()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.kb = max(self.kb, anonymous_kb())

    def close(self) -> float:
        self._stop.set()
        self._thread.join()
        return (max(self.kb, anonymous_kb()) - self.start) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    parser.add_argument("contender")
    parser.add_argument("folder", type=Path)
    parser.add_argument("rows", type=int)
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    contender = importlib.import_module(f"cases.{given.case}").CONTENDERS[given.contender]
    steps = contender.run(given.folder, given.rows)
    next(steps)  # imports and set-up
    peak = Peak()
    cpu = cpu_seconds()
    wall = time.perf_counter()
    said = next(steps)
    figures = {
        "wall": time.perf_counter() - wall,
        "cpu": cpu_seconds() - cpu,
        "memory_mb": peak.close(),
        "said": said,
    }
    (given.folder / "figures.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
