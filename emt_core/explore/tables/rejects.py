"""The rows that `sources` left out, a page at a time: the file is gone through once, then read by place.

A source of a hundred million rows may reject millions. What is kept in memory is twelve bytes a line, for the first
MAX_LINES lines; the counts by reason come from sources.json and are always whole.
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
    """Where each line of rejects.jsonl lies, whose it is and why."""

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
        """int64: lines of this source (and reason), in the file's order, which is the source's row order."""
        if source not in self.source_names or (
            reason is not None and reason not in self.reason_names
        ):
            return np.empty(0, np.int64)
        mine = self.sources == self.source_names.index(source)
        if reason is not None:
            mine &= self.reasons == self.reason_names.index(reason)
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


def read_rejects(path: Path, *, max_lines: int = MAX_LINES) -> RejectLog:
    """Go through rejects.jsonl once, line by line. A missing file (nothing was ever rejected) is an empty log."""
    offsets: list[int] = []
    codes: list[tuple[int, int]] = []
    sources: dict[str, int] = {}
    reasons: dict[str, int] = {}
    complete, at = True, 0
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                if len(offsets) >= max_lines:
                    complete = False
                    break
                entry = json.loads(line)
                offsets.append(at)
                codes.append(
                    (
                        sources.setdefault(entry["source"], len(sources)),
                        reasons.setdefault(entry["reason"], len(reasons)),
                    )
                )
                at += len(line)
    pairs = np.array(codes, np.int16).reshape(len(codes), 2)
    return RejectLog(
        path,
        np.array(offsets, np.int64),
        pairs[:, 0],
        pairs[:, 1],
        list(sources),
        list(reasons),
        complete,
    )
