"""Preview a source: read its first rows in a child process with a time limit.

A dead network share, a hub that does not answer or a malicious file then costs a child process, and
the app goes on. The child prints one JSON object and writes a contact sheet in a temporary folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emt_core.data.preflight import SourceReport, preflight
from emt_core.errors import EmtError
from emt_core.recipe.form import parse_source
from emt_core.recipe.sources import SourceConfig, SourcesConfig

ROWS = 200
SECONDS = 45.0


@dataclass(frozen=True)
class Look:
    report: SourceReport
    sheet: bytes | None
    """WebP of the first images side by side."""


def look(source: SourceConfig, base: Path, *, rows: int = ROWS, seconds: float = SECONDS) -> Look:
    """What the `sources` stage would make of the first rows; `report.error` if unreadable.

    Raises EmtError where this takes longer than `seconds` or the process dies.
    """
    with tempfile.TemporaryDirectory(prefix="emt-look-") as folder:
        asked = {
            "source": source.model_dump(mode="json"),
            "base": str(base),
            "rows": rows,
            "folder": folder,
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", "emt_core.explore.tables.source_look"],
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise EmtError(
                f"looking at the first {rows:,} rows took longer than {seconds:g} s",
                where=source.path,
                remedy="look at fewer rows, or check that the place answers",
            ) from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise EmtError(f"the look ended with code {done.returncode}: {last}", where=source.path)
        report = _report(json.loads(done.stdout))
        return Look(report, report.sheet.read_bytes() if report.sheet else None)


def _report(found: dict[str, Any]) -> SourceReport:
    for name in ("smallest", "largest"):
        found[name] = tuple(found[name]) if found[name] else None
    found["sheet"] = Path(found["sheet"]) if found["sheet"] else None
    return SourceReport(**{**found, "rejects": Counter(found["rejects"])})


def _main() -> None:
    asked = json.load(sys.stdin)
    config = SourcesConfig(sources=(parse_source(asked["source"]),))
    report = preflight(
        config, Path(asked["base"]), thumbnails=Path(asked["folder"]), limit=asked["rows"]
    )[0]
    print(json.dumps({**vars(report), "sheet": str(report.sheet) if report.sheet else ""}))


if __name__ == "__main__":
    _main()
