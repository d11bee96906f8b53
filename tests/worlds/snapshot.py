"""Everything a folder holds, so that two looks compare: names, sizes, times, contents."""

from __future__ import annotations

import hashlib
from pathlib import Path

Facts = tuple[int, int, str]


def snapshot(folder: Path) -> dict[str, Facts]:
    """Relative path -> (mode, mtime in ns, SHA-256 of the content, or "" for a folder)."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        facts = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (facts.st_mode, facts.st_mtime_ns, content)
    return found
