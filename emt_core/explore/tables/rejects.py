"""The rows that `sources` rejected, read a page at a time.

A source of a hundred million rows may reject millions, so only twelve bytes a line are kept in
memory, of the first MAX_LINES lines. Counts by reason come from sources.json and are complete.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAX_LINES = 2_000_000


@dataclass(frozen=True)
class RejectLog:
    """Offset, source and reason of each line of rejects.jsonl."""

    path: Path
    offsets: np.ndarray
    """int64 [lines]: first byte of each line."""

    sources: np.ndarray
    """int16 [lines]: place in source_names."""

    reasons: np.ndarray
    """int16 [lines]: place in reason_names."""

    source_names: list[str]
    reason_names: list[str]
    complete: bool
    """False where the file has more than MAX_LINES lines."""

    def matching(self, source: str, reason: str | None = None) -> np.ndarray:
        """int64: lines of this source (and reason), in the source's row order."""
        mine = self.sources == _place(self.source_names, source)
        if reason is not None:
            mine &= self.reasons == _place(self.reason_names, reason)
        return np.flatnonzero(mine)

    def read(self, lines: np.ndarray) -> list[dict[str, Any]]:
        """The entries of these lines: `id source row own_id reason detail`."""
        if not len(lines):
            return []
        found = []
        with self.path.open("rb") as file:
            for line in lines:
                file.seek(int(self.offsets[line]))
                found.append(json.loads(file.readline()))
        return found


def _place(names: list[str], name: str) -> int:
    return names.index(name) if name in names else -1


def read_rejects(path: Path, *, max_lines: int = MAX_LINES) -> RejectLog:
    """Read rejects.jsonl once, line by line. A missing file is an empty log."""
    offsets: list[int] = []
    codes: list[tuple[int, int]] = []
    sources: dict[str, int] = {}
    reasons: dict[str, int] = {}
    complete = True
    at = 0
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                if len(offsets) >= max_lines:
                    complete = False
                    break
                entry = json.loads(line)
                offsets.append(at)
                source = sources.setdefault(entry["source"], len(sources))
                reason = reasons.setdefault(entry["reason"], len(reasons))
                codes.append((source, reason))
                at += len(line)
    pairs = np.array(codes, np.int16).reshape(len(codes), 2)
    starts = np.array(offsets, np.int64)
    of_source, of_reason = pairs.T
    return RejectLog(path, starts, of_source, of_reason, list(sources), list(reasons), complete)
