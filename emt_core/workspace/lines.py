"""Logs of JSON objects, a line each, that are appended to while work goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a log, none where there is no file.

    A line that a kill cut short is removed from the file, with all behind it: the next append would
    continue it. Only a line feed ends a line: str.splitlines would also split at U+2028 and U+0085,
    which may stand in JSON text.
    """
    if not path.exists():
        return []
    found = []
    good = 0
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            found.append(entry)
            good += len(line)
    if good < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(good)
    return found
